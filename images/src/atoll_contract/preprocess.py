"""The one way a picture becomes the network's input: RGB, squashed to a square, bilinear with antialiasing.

Training's cache, evaluation, the golden pictures and the Pi all call this. EXIF rotation is not looked at: convert
has applied it to what it stores, and a camera's frames have none.
"""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# The input tensor's quantisation: real = (byte - ZERO_POINT) * SCALE, which maps 0…255 onto -1…1 (to half a step).
INPUT_SCALE = 1.0 / 127.5
INPUT_ZERO_POINT = 127


def resize(image: "Image", side: int) -> "np.ndarray[Any, Any]":
    """A PIL picture as uint8 (side, side, 3). The aspect is not kept; boxes relative to the sides stay valid."""
    import numpy as np
    import PIL.Image

    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (side, side):
        rgb = rgb.resize((side, side), PIL.Image.Resampling.BILINEAR)
    return np.asarray(rgb, np.uint8)


def decode(encoded: bytes, side: int) -> "np.ndarray[Any, Any]":
    """A JPEG or PNG file as uint8 (side, side, 3).

    Raises:
        PIL.UnidentifiedImageError, OSError: the bytes are no whole picture.
    """
    import PIL.Image

    with PIL.Image.open(io.BytesIO(encoded)) as image:
        return resize(image, side)


def from_array(frame: "np.ndarray[Any, Any]", side: int) -> "np.ndarray[Any, Any]":
    """An RGB frame, uint8 (height, width, 3), as uint8 (side, side, 3). OpenCV's frames are BGR: turn them first."""
    import PIL.Image

    return resize(PIL.Image.fromarray(frame), side)
