"""Opening a stranger's picture: its header is read, and the caller decides by it whether to decode the rest."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


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
