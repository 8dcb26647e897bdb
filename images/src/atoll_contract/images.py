"""The one way a picture becomes the network's input: RGB, squashed to a square, bilinear with antialiasing.

Training's cache, evaluation, the golden pictures and the Pi all call this. EXIF rotation is not looked at: convert
has applied it to what it stores, and a camera's frames have none.
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


def resize(image: Image, side: int) -> np.ndarray[Any, Any]:
    """A PIL picture as uint8 (side, side, 3). The aspect is not kept; boxes relative to the sides stay valid."""
    import numpy as np
    import PIL.Image

    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (side, side):
        rgb = rgb.resize((side, side), PIL.Image.Resampling.BILINEAR)
    return np.asarray(rgb, np.uint8)


def decode(encoded: bytes, side: int) -> np.ndarray[Any, Any]:
    """A JPEG or PNG file as uint8 (side, side, 3).

    Raises:
        PIL.UnidentifiedImageError, OSError: the bytes are no whole picture.
    """
    import PIL.Image

    with PIL.Image.open(io.BytesIO(encoded)) as image:
        return resize(image, side)


def from_array(frame: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """An RGB frame, uint8 (height, width, 3), as uint8 (side, side, 3). OpenCV's frames are BGR: turn them first."""
    import PIL.Image

    return resize(PIL.Image.fromarray(frame), side)


def opened(data: bytes, formats: tuple[str, ...]) -> ImageFile:
    """The picture, undecoded. Refuse by `size` before anything decodes it: Pillow's own limit is switched off, as it
    only warns up to twice its value and is an error of its own kind past that.

    Raises:
        PIL.UnidentifiedImageError: it is of none of these formats. OSError, SyntaxError, ValueError, struct.error: its
            header is damaged.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return Image.open(io.BytesIO(data), formats=formats)


# The picture is compared in 32 × 32 cells by their mean brightness: that averages the sensor's noise away. A ball of a
# tenth of the picture's height that moves on changes some twenty of them, two hundredths of the picture.
CELLS = 32
# Of 255; a cell that differs by less has not changed.
LEVELS = 12


def centred(cells: NDArray[Any]) -> NDArray[Any]:
    """Gray `CELLS` × `CELLS`, flat, about its median: a lamp or the camera's exposure changes every cell and shows
    nothing new."""
    import numpy as np

    flat = np.asarray(cells, np.int16).ravel()
    return flat - np.int16(np.median(flat))


def changes(known: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """The share of cells (0 to 1) in which each of `known` [n, CELLS²] differs from `cells` [CELLS²], both centred."""
    import numpy as np

    shares: NDArray[Any] = (np.abs(known - cells) > LEVELS).mean(axis=-1)
    return shares
