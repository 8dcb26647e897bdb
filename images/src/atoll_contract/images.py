"""How an image becomes the network's input, how boxes come back into it, and how two images are compared.

The input is RGB, resized to a square by bilinear interpolation with antialiasing. Training, evaluation, the golden
images and the Pi all use `resize`. It ignores EXIF rotation: convert has applied it to the images that it stores, and
a camera's frames have none.
"""

from __future__ import annotations

import io
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from atoll_contract.document import Document

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile


# The input tensor's quantisation: real = (byte - ZERO_POINT) * SCALE, which maps 0…255 onto -1…1 (to half a step).
INPUT_SCALE = 1.0 / 127.5
INPUT_ZERO_POINT = 127
# The grey beside a letterboxed image: the byte that the input's quantisation takes for 0.
PADDING = INPUT_ZERO_POINT
# Images are compared by the mean brightness of 32 × 32 cells, which averages the sensor's noise. A moving ball with a
# tenth of the image's height changes about twenty cells, 0.02 of the image.
CELLS = 32
# A cell has changed if it differs by more than this, of 255.
LEVELS = 12


# Where the image lies in the input: ymin, xmin, ymax, xmax, relative to the input.
Region = tuple[float, float, float, float]


class Resize(StrEnum):
    """How an image of any aspect ratio becomes the square input: by stretching it, or by padding it with grey."""

    SQUASH = "squash"
    LETTERBOX = "letterbox"


class Preprocessing(Document, frozen=True):
    """What a model asks to be done with an image before it sees it."""

    resize: Resize


def stated_preprocessing(how: Resize) -> Preprocessing | None:
    """What documents and files say of a model: nothing of one that squashes, so that older versions read it."""
    return None if how is Resize.SQUASH else Preprocessing(how)


def resize(image: Image, side: int, how: Resize = Resize.SQUASH) -> np.ndarray[Any, Any]:
    """A PIL image as uint8 (side, side, 3). A letterboxed one keeps its aspect ratio and lies in the middle of the
    input, as `image_region` says."""
    import numpy as np

    pixels = np.asarray(scaled(image, side, how), np.uint8)
    if pixels.shape[:2] == (side, side):
        return pixels
    height, width = pixels.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.full((side, side, 3), PADDING, np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded


def scaled(image: Image, side: int, how: Resize) -> Image:
    """The part of the input that shows the image, in RGB: all of it, or what the padding leaves."""
    import PIL.Image

    rgb = image if image.mode == "RGB" else image.convert("RGB")
    size = _scaled_size(rgb.size, side, how)
    return rgb if rgb.size == size else rgb.resize(size, PIL.Image.Resampling.BILINEAR)


def decode(encoded: bytes, side: int, how: Resize = Resize.SQUASH) -> np.ndarray[Any, Any]:
    """A JPEG or PNG file as uint8 (side, side, 3).

    Raises:
        PIL.UnidentifiedImageError, OSError: the bytes are not a complete image.
    """
    import PIL.Image

    with PIL.Image.open(io.BytesIO(encoded)) as image:
        return resize(image, side, how)


def image_region(size: tuple[int, int], side: int, how: Resize) -> Region:
    """Where an image of `size` (width, height) lies in the input."""
    width, height = _scaled_size(size, side, how)
    top, left = (side - height) // 2, (side - width) // 2
    return top / side, left / side, (top + height) / side, (left + width) / side


def boxes_in_input(boxes: NDArray[Any], region: Region) -> NDArray[Any]:
    """Boxes [n, 4] relative to an image that lies in `region`, relative to the input."""
    origin, extent = _origin_and_extent(region)
    placed: NDArray[Any] = (boxes * extent + origin).astype(boxes.dtype)
    return placed


def boxes_in_image(boxes: NDArray[Any], region: Region) -> tuple[NDArray[Any], NDArray[Any]]:
    """Boxes [n, 4] relative to the input, relative to the image that lies in `region` and clipped at its edges; and for
    each whether any of it lies in the image. An image that fills the input keeps all its boxes as they are."""
    import numpy as np

    if region == (0.0, 0.0, 1.0, 1.0):
        return boxes, np.ones(len(boxes), bool)
    origin, extent = _origin_and_extent(region)
    clipped = np.clip((boxes - origin) / extent, 0.0, 1.0).astype(boxes.dtype)
    return clipped, (clipped[:, 2:] > clipped[:, :2]).all(axis=1)


def _scaled_size(size: tuple[int, int], side: int, how: Resize) -> tuple[int, int]:
    if how is Resize.SQUASH:
        return side, side
    longest = max(size)
    # Half a pixel is rounded up, as PhotonVision does.
    width, height = (max(1, (2 * length * side + longest) // (2 * longest)) for length in size)
    return width, height


def _origin_and_extent(region: Region) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    top, left, bottom, right = region
    return np.array([top, left, top, left]), np.array([bottom - top, right - left] * 2)


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
