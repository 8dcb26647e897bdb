"""Videos: loading the decoder, and what is wrong with a file that should be a video, in a sentence for its owner.

Only the first bytes and the boxes of an mp4 are read (ISO/IEC 14496-12): FFmpeg says of all such files "Invalid data".
"""

import re
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from atoll_contract.errors import SpecError
from atoll_contract.installation import INSTALL_LAPTOP

NO_VIDEO = (
    "it is no video, or a damaged one; name a video file such as .mp4, .mov, .mkv, .webm or .avi, and copy it once "
    "more if a player does not show it either"
)
SOUND_ONLY = "there is no picture in it, only sound or other data; name a file that a camera recorded"
NO_FRAME = "there is no frame in it that can be read: the recording is incomplete; copy it again, or record again"
_EMPTY = "the file is empty (0 bytes): the recording or the copy failed; copy it again, or record again"
_CUT_OFF = (
    "the recording was cut off: the file is incomplete, its index (moov), which is written last, is missing; copy it "
    "again if the original plays, else record again and stop the recording before the power goes"
)
_STILL = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG)|(?P<GIF>GIF8)|(?P<BMP>BM.{4}\0{4})|(?P<TIFF>II\*\0|MM\0\*)"
    rb"|(?P<WebP>RIFF.{4}WEBP)|(?P<HEIC>.{4}ftyp(?:hei[cx]|mif1))|(?P<AVIF>.{4}ftypavif)",
    re.DOTALL,
)
_SOUND = re.compile(rb"ID3|\xff[\xf1-\xfb]|fLaC|RIFF.{4}WAVE|OggS.{24}(?:OpusHead|\x01vorbis)", re.DOTALL)
# Types of the boxes with which an mp4 or a QuickTime file begins.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_HANDLER = re.compile(rb"hdlr.{8}(vide|soun)", re.DOTALL)


def load_av() -> ModuleType:
    """Imports PyAV, the binding of FFmpeg's libraries.

    Raises:
        SpecError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SpecError(
            f"videos need the package av, which is not installed here ({error}); {INSTALL_LAPTOP} brings it"
        ) from None
    return av


def video_problem(path: Path) -> str:
    """What keeps the file from being a video that plays; empty where its first bytes and boxes show nothing."""
    try:
        with path.open("rb") as file:
            # Some files begin like one picture and hold many.
            return _problem(file, animated=path.suffix.lower() in (".gif", ".mjpg", ".mjpeg"))
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def _problem(file: BinaryIO, *, animated: bool) -> str:
    head = file.read(4096)
    if not head:
        return _EMPTY
    still = _STILL.match(head)
    if still and not animated:
        return f"it is a picture ({still.lastgroup}) and no video, whatever its name says; name the video itself"
    if head[4:8] in _FIRST_BOXES:
        return _boxes_problem(file)
    return SOUND_ONLY if _SOUND.match(head) else ""


def _boxes_problem(file: BinaryIO) -> str:
    """Whether the index of an mp4 is missing, or names tracks of sound alone."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if header[4:8] == b"moov" and at + size <= end:
            file.seek(at)
            # Hours of video have an index of some ten megabytes.
            kinds = set(_HANDLER.findall(file.read(min(size, 1 << 26))))
            return SOUND_ONLY if kinds == {b"soun"} else ""
        if size < 8:  # 0: the last box, which goes to the end of the file
            break
        at += size
    return _CUT_OFF
