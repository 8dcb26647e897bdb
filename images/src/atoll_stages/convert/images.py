"""Prepares an image for the records: upright, RGB, at most 640 pixels on the long side, as JPEG.

A plain upright JPEG of at most 1,280 pixels goes into the records as it was saved, without its metadata. To shrink it
would cost more time than to read it larger, and a second compression some of its quality. It is decoded all the same,
in grey at an eighth of its size, as the check that it can be read: that reads all of its data, too.

Its header is checked before its pixels are decoded. Pillow is imported inside functions, and tries no formats but those
of `image_formats`.
"""

import hashlib
import io
import struct
import threading
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.images import opened
from atoll_stages.convert.image_formats import FIRST_FRAME_FORMATS, FORMAT_OF_SUFFIX, FORMATS, name_unread
from atoll_stages.convert.jpeg import without_metadata

if TYPE_CHECKING:
    from PIL import Image

LONG_SIDE = 640
# The longest side of a JPEG that is handed through.
MAX_PLAIN_SIDE = 1280
# Close to lossless for a second compression; the training side decodes it at the usual 4:2:0 speed.
JPEG_QUALITY = 95
FORMAT = "jpeg"
_ORIENTATION = 0x0112
# Images of more pixels are decoded one at a time, so that memory does not grow with the number of threads or processes.
_LARGE_PIXELS = 4_000_000
# Pillow's decoders raise these on damaged files, as fuzzing found.
_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, LookupError, TypeError, OverflowError),
    # The AVIF decoder raises this alone.
    RuntimeError,
)
THUMB_SIDE = 16
# A JPEG is decoded for its fingerprint at the smallest scale of 1, 1/2, 1/4 and 1/8 that is not smaller than this.
_FINGERPRINT_SIDE = 48
# Steps of brightness by which compression alone may make two equal areas differ.
_NOISE = 3


class _LargeImages:
    """Whose turn it is to decode a large image: of this process's threads, or of several processes (`share`)."""

    def __init__(self) -> None:
        self.turn: AbstractContextManager[bool] = threading.Lock()

    def share(self, turn: AbstractContextManager[bool]) -> None:
        self.turn = turn


large_images = _LargeImages()


class UnreadableImage(ValueError):
    """The file cannot be read as an image; the message says why."""


@dataclass(frozen=True)
class PreparedImage:
    """An image as it goes into the records, and what identifies it.

    `data` is a JPEG of `width` × `height`. `stored_size` is (width, height) in the file, before its EXIF `orientation`
    is applied; `source_sha256` is of the file's bytes, `sha256` of `data`. `dhash` and `thumbnail` (16×16 grey) serve
    to find near duplicates. `misnamed_as` is the true format where the file's suffix means another. `is_first_frame`:
    the file has more frames or pages, which are not read.
    """

    data: bytes
    width: int
    height: int
    stored_size: tuple[int, int]
    orientation: int
    source_sha256: str
    sha256: str
    dhash: int
    thumbnail: bytes
    misnamed_as: str | None
    is_first_frame: bool = False


def prepare_image(source: bytes, *, name: str, limits: DatasetLimits) -> PreparedImage:
    """Prepares the image file with the bytes `source`, which its archive calls `name`.

    Raises:
        UnreadableImage: it cannot be decoded, is animated or has no pixels.
        DatasetError: DatasetTooLarge, its header claims more pixels than allowed; nothing was decoded.
    """
    with _opened(source) as image:
        pixels = _checked_size(image, name=name, limits=limits)
        stored_size, orientation = image.size, _orientation(image)
        is_first_frame = _has_more_frames(image)
        if image.format == "TIFF":
            # Pillow turns TIFF alone by itself, and gives its size as turned.
            stored_size, turn = (stored_size if orientation < 5 else stored_size[::-1]), 1
        else:
            turn = orientation
        actual = "JPEG" if image.format == "MPO" else str(image.format)
        is_plain = image.format == "JPEG" and turn == 1 and max(stored_size) <= MAX_PLAIN_SIDE
        data = without_metadata(source) if is_plain else None
        if data is not None:
            width, height = stored_size
            seen = _decoded_small(image)
        else:
            seen = _decoded_alone(image, turn) if pixels > _LARGE_PIXELS else _decoded(image, turn)
            width, height = seen.size
            data = _encoded(seen)
    dhash, thumbnail = _fingerprints(seen)
    expected = FORMAT_OF_SUFFIX.get(Path(name).suffix.lower())
    return PreparedImage(
        data=data,
        width=width,
        height=height,
        stored_size=stored_size,
        orientation=orientation,
        source_sha256=hashlib.sha256(source).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
        dhash=dhash,
        thumbnail=thumbnail,
        misnamed_as=None if actual == expected else actual,
        is_first_frame=is_first_frame,
    )


def image_size(source: bytes) -> tuple[int, int]:
    """Returns the (width, height) that the image's header says; raises UnreadableImage."""
    with _opened(source) as image:
        return image.size


def _opened(source: bytes) -> "Image.Image":
    from PIL import UnidentifiedImageError

    try:
        return opened(source, FORMATS)
    except UnidentifiedImageError:
        raise UnreadableImage(name_unread(source)) from None
    except _DAMAGED as error:
        raise UnreadableImage(_why(error)) from None


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
        raise UnreadableImage(f"it is {width}×{height}")
    return pixels


def _has_more_frames(image: "Image.Image") -> bool:
    """Whether only the first frame is read; raises UnreadableImage for an animation."""
    if image.format == "MPO":
        return False
    try:
        frames = getattr(image, "n_frames", 1)
    except _DAMAGED as error:
        raise UnreadableImage(_why(error)) from None
    if frames > 1 and image.format not in FIRST_FRAME_FORMATS:
        raise UnreadableImage(f"an animation of {frames} frames, not a picture")
    return bool(frames > 1)


def _orientation(image: "Image.Image") -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decoded_small(image: "Image.Image") -> "Image.Image":
    """Returns a JPEG in grey, as small as it can be decoded and still has a fingerprint."""
    try:
        image.draft("L", (_FINGERPRINT_SIDE, _FINGERPRINT_SIDE))
        image.load()
        return image
    except _DAMAGED as error:
        raise UnreadableImage(_why(error)) from None


def _decoded_alone(image: "Image.Image", orientation: int) -> "Image.Image":
    with large_images.turn:
        return _decoded(image, orientation)


def _decoded(image: "Image.Image", orientation: int) -> "Image.Image":
    """Returns the image in RGB, upright, its sides at most LONG_SIDE."""
    from PIL import Image

    transpose = Image.Transpose
    upright = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
    try:
        # JPEG decoders can halve while they decode; PNG and WebP ignore this.
        image.draft(None, (LONG_SIDE, LONG_SIDE))
        image.load()
        rgb = _rgb(image)
        if max(rgb.size) > LONG_SIDE:
            rgb.thumbnail((LONG_SIDE, LONG_SIDE), reducing_gap=2.0)
        return rgb.transpose(upright[orientation]) if orientation in upright else rgb
    except _DAMAGED as error:
        raise UnreadableImage(_why(error)) from None


def _rgb(image: "Image.Image") -> "Image.Image":
    """Returns an image of any mode in RGB: 16-bit grey by its high byte, transparency over black."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of an unknown range; save it with 8 bits")
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
    # An empty info leaves out EXIF (with location and serial numbers), colour profiles and comments.
    image.info = {}
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _fingerprints(image: "Image.Image") -> tuple[int, bytes]:
    """Returns a 64-bit difference hash (does brightness rise from left to right?) and a 16×16 grey thumbnail."""
    from PIL import Image

    side = THUMB_SIDE * 4
    # To average whole blocks first takes half of the time.
    small = image.reduce((max(1, image.width // side), max(1, image.height // side)))
    grey = (small if small.mode == "L" else small.convert("L")).resize((side, side), Image.Resampling.BOX)
    rows = grey.resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for y in range(8):
        for x in range(8):
            bits = bits << 1 | (rows[9 * y + x] + _NOISE < rows[9 * y + x + 1])
    return bits, grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes()


def _why(error: BaseException) -> str:
    return f"{error}" or type(error).__name__
