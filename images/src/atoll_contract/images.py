"""How an image becomes the network's input, and how two images are compared.

The input is RGB, resized to a square by bilinear interpolation with antialiasing. Training, evaluation, the golden
images and the Pi all use `resize`. It ignores EXIF rotation: convert has applied it to the images that it stores, and
a camera's frames have none.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile


# The input tensor's quantisation: real = (byte - ZERO_POINT) * SCALE, which maps 0…255 onto -1…1 (to half a step).
INPUT_SCALE = 1.0 / 127.5
INPUT_ZERO_POINT = 127
# Images are compared by the mean brightness of 32 × 32 cells, which averages the sensor's noise. A moving ball with a
# tenth of the image's height changes about twenty cells, 0.02 of the image.
CELLS = 32
# A cell has changed if it differs by more than this, of 255.
LEVELS = 12


def resize(image: Image, side: int) -> np.ndarray[Any, Any]:
    """A PIL image as uint8 (side, side, 3). Does not keep the aspect ratio; boxes relative to the sides stay valid."""
    import numpy as np
    import PIL.Image

    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (side, side):
        rgb = rgb.resize((side, side), PIL.Image.Resampling.BILINEAR)
    return np.asarray(rgb, np.uint8)


def decode(encoded: bytes, side: int) -> np.ndarray[Any, Any]:
    """A JPEG or PNG file as uint8 (side, side, 3).

    Raises:
        PIL.UnidentifiedImageError, OSError: the bytes are not a complete image.
    """
    import PIL.Image

    with PIL.Image.open(io.BytesIO(encoded)) as image:
        return resize(image, side)


def opened(data: bytes, formats: tuple[str, ...]) -> ImageFile:
    """Opens an image without decoding it. The caller checks `size` before it decodes: this switches Pillow's own limit
    off, which only warns up to twice its value and raises an error of its own kind past that.

    Raises:
        PIL.UnidentifiedImageError: it has none of these formats.
        OSError, SyntaxError, ValueError, struct.error: its header is damaged.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return Image.open(io.BytesIO(data), formats=formats)


def centred(cells: NDArray[Any]) -> NDArray[Any]:
    """Subtracts the median from gray `CELLS` × `CELLS`, and flattens it: a lamp or the camera's exposure changes every
    cell, but is no other image."""
    import numpy as np

    flat = np.asarray(cells, np.int16).ravel()
    return flat - np.int16(np.median(flat))


def changes(known: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """The share of cells (0 to 1) in which each of `known` [n, CELLS²] differs from `cells` [CELLS²], both centred."""
    import numpy as np

    shares: NDArray[Any] = (np.abs(known - cells) > LEVELS).mean(axis=-1)
    return shares
