"""A picture of the camera, and what gives pictures."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One picture, BGR [h, w, 3]; its number from 1; when it was taken, in microseconds of NetworkTables' clock."""

    picture: "NDArray[uint8]"
    number: int
    captured_us: int

    @property
    def width(self) -> int:
        return int(self.picture.shape[1])

    @property
    def height(self) -> int:
        return int(self.picture.shape[0])


class FrameSource(Protocol):
    """A camera or what stands for one."""

    @property
    def description(self) -> str:
        """What people are told: a device path, a URL, a folder."""
        ...

    @property
    def mode(self) -> tuple[int, int, int]:
        """Width, height and frames per second that were asked for."""
        ...

    @property
    def connected(self) -> bool: ...

    def grab(self, timeout_seconds: float) -> Frame | None:
        """The next frame, or None if none came within `timeout_seconds`. Called by one thread."""
        ...

    def close(self) -> None: ...


class LatestFrame:
    """Hands the newest frame from the capture thread to the detector thread; older ones are dropped and counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        with self._condition:
            if self._frame is not None:
                self.dropped += 1
            self._frame = frame
            self._condition.notify()

    def take(self, timeout_seconds: float) -> Frame | None:
        """The newest frame that was not taken yet, waiting up to `timeout_seconds` for one."""
        with self._condition:
            if self._frame is None:
                self._condition.wait(timeout_seconds)
            frame, self._frame = self._frame, None
            return frame


class Pacer:
    """Waits for the next tick of `fps`; after a long pause it goes on from now instead of catching up."""

    def __init__(self, fps: float) -> None:
        self._step = 1.0 / fps
        self._next = time.monotonic()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether the tick came within `timeout_seconds`."""
        now = time.monotonic()
        delay = self._next - now
        if delay > timeout_seconds:
            time.sleep(timeout_seconds)
            return False
        if delay > 0:
            time.sleep(delay)
        self._next = max(self._next + self._step, now)
        return True
