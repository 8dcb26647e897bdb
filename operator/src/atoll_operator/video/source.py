"""What a recording is made from: a camera, a network stream or a file, and how FFmpeg is asked to open it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from atoll_contract.errors import SpecError
from atoll_operator.video.library import load_av

if TYPE_CHECKING:
    from av.container import InputContainer

# A camera's network interface answers slowly after power-up; one that sends nothing for so long is gone.
OPEN_SECONDS = 10.0
READ_SECONDS = 5.0

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp")
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class CameraMode:
    """What is asked of a camera: pixels, and frames per second. A network stream sends what it sends."""

    width: int = 640
    height: int = 480
    rate: int = 30


@dataclass(frozen=True)
class Source:
    """One thing to record.

    `title` is for people: it holds no credentials. `live` sources lose what is not read in time and may come back.
    """

    address: str
    title: str
    live: bool
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> InputContainer:
        """The opened source, with deadlines for opening and for each read.

        Raises:
            av.FFmpegError: it cannot be opened.
        """
        av = load_av()
        container: InputContainer = av.open(
            self.address, format=self.format, options=dict(self.options), timeout=(OPEN_SECONDS, READ_SECONDS)
        )
        return container


def source_of(text: str, mode: CameraMode) -> Source:
    """The source that a user named: `0` or `/dev/video0`, a URL, or a file.

    Raises:
        SpecError: it is none of these.
    """
    if text.isdecimal() or text.startswith(("/dev/video", "video=")):
        return _camera(text, mode)
    if "://" in text:
        return _stream(text)
    if not Path(text).is_file():
        raise SpecError(f"{text}: no such file; a source is a camera (0, /dev/video0), a URL or a video file")
    return Source(address=f"file:{text}", title=text, live=False, options={"protocol_whitelist": "file"})


def _camera(text: str, mode: CameraMode) -> Source:
    system = CAMERA_FORMATS.get(sys.platform)
    if system is None:
        raise SpecError(f"camera {text}: cameras are known on Linux, macOS and Windows; this is {sys.platform}")
    if system == "dshow" and text.isdecimal():
        raise SpecError(f"camera {text}: on Windows a camera has a name; give video=NAME, see the device manager")
    address = f"/dev/video{text}" if system == "v4l2" and text.isdecimal() else text
    options = {"video_size": f"{mode.width}x{mode.height}", "framerate": str(mode.rate)}
    return Source(address=address, title=f"camera {text}", live=True, format=system, options=options)


def _stream(text: str) -> Source:
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise SpecError(f"{without_credentials(text)}: not a stream; a URL starts with {', '.join(SCHEMES)} and a host")
    # RTSP over UDP loses packets on a busy field network, and every loss is a smeared picture.
    options = {"rtsp_transport": "tcp"} if parts.scheme.startswith("rtsp") else {}
    return Source(address=text, title=without_credentials(text), live=True, options=options)


def without_credentials(url: str) -> str:
    """The URL without user, password and query, which may hold a token."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
