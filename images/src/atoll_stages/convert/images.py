"""One picture: header checked before its pixels, upright, RGB, at most 640 on the long side, as JPEG.

Pillow is imported inside; it never guesses beyond JPEG, PNG and WebP.
"""

import hashlib
import io
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.images import opened
from atoll_contract.stage import DatasetLimits

if TYPE_CHECKING:
    from PIL import Image


LONG_SIDE = 640
# Close to lossless for a second compression; the training side decodes it at the usual 4:2:0 speed.
JPEG_QUALITY = 95
FORMAT = "jpeg"
_FORMATS = ("JPEG", "PNG", "WEBP")
_FORMAT_OF_SUFFIX = {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_ORIENTATION = 0x0112
# Pictures beyond this many pixels are decoded one at a time, so that memory does not grow with the workers.
_LARGE_PIXELS = 4_000_000
_LARGE = threading.Lock()
# What Pillow's decoders raise on damaged files, as found by fuzzing them.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
)

THUMB_SIDE = 16
# Steps of brightness that compression alone may make between two equal areas.
_NOISE = 3


class Unreadable(ValueError):
    """The file is no picture that can be read; the text says why."""


@dataclass(frozen=True)
class Picture:
    """A picture as it goes into the records, and what identifies it.

    `stored_size` is (width, height) in the file, before its EXIF `orientation` is applied; `source_sha256` is
    of the file's bytes, `sha256` of `data`. `dhash` and `thumb` (16×16 grey) serve to find near duplicates.
    """

    data: bytes
    width: int
    height: int
    stored_size: tuple[int, int]
    orientation: int
    source_sha256: str
    sha256: str
    dhash: int
    thumb: bytes
    misnamed_as: str | None


def read_picture(path: Path, *, name: str, limits: DatasetLimits) -> Picture:
    """The picture at `path`, which its archive calls `name`.

    Raises:
        Unreadable: it cannot be decoded, is animated or has no pixels.
        DatasetError: DatasetTooLarge, its header claims more pixels than allowed; nothing was decoded.
    """
    source = path.read_bytes()
    with _opened(source) as image:
        pixels = _checked_size(image, name=name, limits=limits)
        claimed, orientation = image.size, _orientation(image)
        if pixels > _LARGE_PIXELS:
            with _LARGE:
                upright = _decoded(image, orientation)
        else:
            upright = _decoded(image, orientation)
        real = "JPEG" if image.format == "MPO" else str(image.format)
    data = _encoded(upright)
    dhash, thumb = _fingerprints(upright)
    expected = _FORMAT_OF_SUFFIX.get(Path(name).suffix.lower())
    return Picture(
        data=data,
        width=upright.width,
        height=upright.height,
        stored_size=claimed,
        orientation=orientation,
        source_sha256=hashlib.sha256(source).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
        dhash=dhash,
        thumb=thumb,
        misnamed_as=None if real == expected else real,
    )


def _opened(source: bytes) -> "Image.Image":
    from PIL import UnidentifiedImageError

    try:
        return opened(source, _FORMATS)
    except UnidentifiedImageError:
        raise Unreadable(f"no readable JPEG, PNG or WebP (first bytes {shown(source[:8])})") from None
    except _DAMAGED as error:
        raise Unreadable(_why(error)) from None


def _checked_size(image: "Image.Image", *, name: str, limits: DatasetLimits) -> int:
    width, height = image.size
    pixels = width * height
    if pixels > limits.picture_pixels or max(width, height) > limits.picture_side:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"{shown(name)} is {width}×{height} ({pixels / 1e6:,.4g} Mpx), limit "
            f"{limits.picture_pixels / 1e6:g} Mpx and {limits.picture_side} per side",
        )
    if pixels == 0:
        raise Unreadable(f"it is {width}×{height}")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise Unreadable(f"an animation of {frames} frames, not a picture")
    return pixels


def _orientation(image: "Image.Image") -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decoded(image: "Image.Image", orientation: int) -> "Image.Image":
    """RGB, at most LONG_SIDE, upright."""
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        # JPEG decoders can halve while they decode; PNG and WebP ignore this.
        image.draft(None, (LONG_SIDE, LONG_SIDE))
        image.load()
        rgb = _rgb(image)
        if max(rgb.size) > LONG_SIDE:
            rgb.thumbnail((LONG_SIDE, LONG_SIDE), reducing_gap=2.0)
        return rgb.transpose(turns[orientation]) if orientation in turns else rgb
    except _DAMAGED as error:
        raise Unreadable(_why(error)) from None


def _rgb(image: "Image.Image") -> "Image.Image":
    """Any mode as RGB: 16-bit grey by its high byte, transparency over black."""
    from PIL import Image

    if image.mode.startswith("I"):
        import numpy as np

        high_byte = (np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size)
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _encoded(image: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    # An empty info keeps EXIF (with its place and serial numbers), colour profiles and comments out.
    image.info = {}
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _fingerprints(image: "Image.Image") -> tuple[int, bytes]:
    """A 64-bit difference hash (does brightness rise from left to right?) and a 16×16 grey thumbnail."""
    from PIL import Image

    grey = image.convert("L").resize((THUMB_SIDE * 4, THUMB_SIDE * 4), Image.Resampling.BOX)
    rows = grey.resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for y in range(8):
        for x in range(8):
            bits = bits << 1 | (rows[9 * y + x] + _NOISE < rows[9 * y + x + 1])
    return bits, grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes()


def _why(error: BaseException) -> str:
    return f"{error}" or type(error).__name__
