"""The source of a recording: a camera, a network stream or a file, and the thread that reads its frames with FFmpeg."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from atoll_contract.errors import SpecError
from atoll_contract.video import NO_FRAME, NO_VIDEO, SOUND_ONLY, load_av, video_problem

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

logger = logging.getLogger(__name__)

# A camera's network interface answers slowly after power-up; one that sends nothing for this long is gone.
OPEN_SECONDS = 10.0
READ_SECONDS = 5.0
RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0)
POLL_SECONDS = 0.1
MAX_WAITING_FRAMES = 16

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp")
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class CameraMode:
    """The size in pixels and the frames per second that are requested from a camera. A network stream ignores them."""

    width: int = 640
    height: int = 480
    rate: int = 30


@dataclass(frozen=True)
class Source:
    """A source as FFmpeg opens it. `title` is for people and holds no credentials. A `live` source loses the frames
    that are not read in time, and may come back after it was lost."""

    address: str
    title: str
    live: bool
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> InputContainer:
        """Open the source, with deadlines for opening and for each read.

        Raises:
            av.FFmpegError: it cannot be opened.
        """
        av = load_av()
        container: InputContainer = av.open(
            self.address, format=self.format, options=dict(self.options), timeout=(OPEN_SECONDS, READ_SECONDS)
        )
        return container


def source_of(text: str, mode: CameraMode) -> Source:
    """The source that a user named: a camera (`0`, `/dev/video0`), a URL, or a file.

    Raises:
        SpecError: it is none of these, or a file that is no video.
    """
    if text.isdecimal() or text.startswith(("/dev/video", "video=")):
        return _camera(text, mode)
    if "://" in text:
        return _stream(text)
    if not Path(text).is_file():
        raise SpecError(f"{text}: no such file; a source is a camera (0, /dev/video0), a URL or a video file")
    problem = video_problem(Path(text))
    if problem:
        raise SpecError(f"{text}: {problem}")
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


@dataclass(frozen=True)
class TimedFrame:
    """A frame and its time: seconds since the first frame."""

    frame: VideoFrame
    seconds: float


class SourceReader(threading.Thread):
    """Reads `source` to its end; connects to a live one again until it is gone for `retry_timeout` seconds.

    The frames of a live source get the time of the clock, because an MJPEG stream has no times. `missed` counts those
    that were not taken in time. When it is `exhausted`, `failure` says why, or is empty at the end of a file.
    """

    def __init__(self, source: Source, *, retry_timeout: float) -> None:
        super().__init__(name="read-video", daemon=True)
        self.source, self.retry_timeout = source, retry_timeout
        self.missed = 0
        self.failure = ""
        self.ended = threading.Event()
        self._stopped = threading.Event()
        self._queue: queue.Queue[TimedFrame] = queue.Queue(MAX_WAITING_FRAMES)
        self._first: float | None = None
        self._latest = 0.0

    def __enter__(self) -> SourceReader:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stopped.set()
        # A camera's driver may never return; the thread is a daemon and ends with the process.
        self.join(timeout=1.0)

    def take(self) -> TimedFrame | None:
        """The next frame; None if there was none within a tenth of a second."""
        try:
            return self._queue.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None

    @property
    def exhausted(self) -> bool:
        """Whether every frame was taken and none will follow."""
        return self.ended.is_set() and self._queue.empty()

    def run(self) -> None:
        attempts = 0
        while not self._stopped.is_set():
            taken = self._latest
            self._read_once()
            if self._gives_up():
                break
            attempts = 0 if self._latest != taken else attempts + 1
            logger.info("%s: %s; connecting again", self.source.title, self.failure)
            self._stopped.wait(RECONNECT_SECONDS[min(attempts, len(RECONNECT_SECONDS) - 1)])
        self.ended.set()

    def _read_once(self) -> None:
        av = load_av()
        self.failure = "the stream ended" if self.source.live else ""
        try:
            with self.source.open() as container:
                if not container.streams.video:
                    self.failure = SOUND_ONLY
                    return
                container.streams.video[0].thread_type = "AUTO"
                for number, frame in enumerate(container.decode(video=0)):
                    if self._stopped.is_set():
                        return
                    self._put(frame, number)
        except av.FFmpegError as error:
            # The library's own text names the address, which may have a password in it.
            self.failure = error.strerror or type(error).__name__
            if not self.source.live and self._first is None and not isinstance(error, LookupError):  # no decoder
                self.failure = NO_VIDEO
        if not self.source.live and self._first is None:
            self.failure = self.failure or NO_FRAME

    def _gives_up(self) -> bool:
        """Whether to stop. A source that never worked is not retried; one that did has `retry_timeout` seconds."""
        if not self.source.live or self._first is None:
            return True
        return time.monotonic() - self._latest > self.retry_timeout

    def _put(self, frame: VideoFrame, number: int) -> None:
        timed = TimedFrame(frame, self._seconds(frame, number))
        while not self._stopped.is_set():
            try:
                self._queue.put(timed, timeout=0 if self.source.live else POLL_SECONDS)
                return
            except queue.Full:
                if self.source.live:
                    self.missed += 1
                    return

    def _seconds(self, frame: VideoFrame, number: int) -> float:
        if self.source.live:
            self._latest = time.monotonic()
            at = self._latest
        else:
            at = frame.time if frame.time is not None else number / 30
        if self._first is None:
            self._first = at
        return at - self._first
