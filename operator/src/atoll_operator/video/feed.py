"""The frames of a source, read in a thread, so that whoever takes them can stop at any moment."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from atoll_operator.video.library import load_av
from atoll_operator.video.source import Source

if TYPE_CHECKING:
    from av import VideoFrame

logger = logging.getLogger(__name__)

WAITING_FRAMES = 16
POLL_SECONDS = 0.1
RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Moment:
    """A frame and its time: seconds since the first frame."""

    frame: VideoFrame
    seconds: float


class Feed(threading.Thread):
    """Reads `source` to its end, and a live one again and again.

    Times are those of the clock for a live source: an MJPEG stream has none of its own. `missed` counts the frames
    of a live source that nobody took in time. When `ended` is set and `take` answers None, nothing more comes;
    `failure` then says why, or is empty at the end of a file.
    """

    def __init__(self, source: Source, *, patience: float) -> None:
        super().__init__(name="read-video", daemon=True)
        self.source, self.patience = source, patience
        self.missed = 0
        self.failure = ""
        self.ended = threading.Event()
        self._stopped = threading.Event()
        self._queue: queue.Queue[Moment] = queue.Queue(WAITING_FRAMES)
        self._first: float | None = None
        self._latest = 0.0

    def __enter__(self) -> Feed:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        # A camera's driver may never return; the thread is a daemon and ends with the process.
        self.join(timeout=1.0)

    def take(self) -> Moment | None:
        """The next frame, or None where none came within a tenth of a second."""
        try:
            return self._queue.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None

    @property
    def exhausted(self) -> bool:
        """Whether every frame was taken and no other will come."""
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
                    self.failure = "there is no picture in it"
                    return
                container.streams.video[0].thread_type = "AUTO"
                for number, frame in enumerate(container.decode(video=0)):
                    if self._stopped.is_set():
                        return
                    self._put(frame, number)
        except av.FFmpegError as error:
            # The library's own text has the address in it, and that may have a password.
            self.failure = error.strerror or type(error).__name__

    def _gives_up(self) -> bool:
        """A source that was never there is a mistake; one that was there gets `patience` seconds to come back."""
        if not self.source.live or self._first is None:
            return True
        return time.monotonic() - self._latest > self.patience

    def _put(self, frame: VideoFrame, number: int) -> None:
        moment = Moment(frame, self._seconds(frame, number))
        while not self._stopped.is_set():
            try:
                self._queue.put(moment, timeout=0 if self.source.live else POLL_SECONDS)
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
