"""Frames, the interface of their sources, and the slot that passes the newest frame to another thread."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

# An image as OpenCV has it: BGR [h, w, 3]. A string, because only what handles pixels imports numpy.
BgrImage: TypeAlias = "NDArray[uint8]"


@dataclass(frozen=True)
class Frame:
    """One image, BGR [h, w, 3], with its number from 1 and its time in microseconds of NetworkTables' clock."""

    image: BgrImage
    number: int
    captured_us: int

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])


class FrameSource(Protocol):
    """A camera, or a substitute for one."""

    @property
    def description(self) -> str:
        """The device path, URL or folder, for the status page."""
        ...

    @property
    def mode(self) -> tuple[int, int, int]:
        """The requested width, height and frames per second."""
        ...

    @property
    def connected(self) -> bool: ...

    def grab(self, timeout_seconds: float) -> Frame | None:
        """Returns the next frame, or None if none came within `timeout_seconds`. One thread calls this."""
        ...

    def close(self) -> None: ...


class LatestFrames:
    """Passes the newest frame of each camera from its capture thread to the detectors' threads, which get the cameras
    that have one in turns; counts the frames that a newer one replaces. A camera's frames stay in their order: it has
    one at a time in a detector, until `release`."""

    def __init__(self, cameras: int = 1) -> None:
        self._condition = threading.Condition()
        self._frames: list[Frame | None] = [None] * cameras
        self._dropped = [0] * cameras
        self._held = [False] * cameras
        self._last = 0

    def put(self, frame: Frame, camera: int = 0) -> None:
        with self._condition:
            if self._frames[camera] is not None:
                self._dropped[camera] += 1
            self._frames[camera] = frame
            self._condition.notify()

    def take(self, timeout_seconds: float) -> tuple[int, Frame] | None:
        """Returns a camera's index and its frame that was not taken yet, after waiting up to `timeout_seconds` for one,
        else None. The camera gives no other frame before `release`."""
        with self._condition:
            found = self._next()
            if found is None:
                self._condition.wait(timeout_seconds)
                found = self._next()
        return found

    def release(self, camera: int) -> None:
        """Called when a frame that was taken is dealt with."""
        with self._condition:
            self._held[camera] = False
            if self._frames[camera] is not None:
                self._condition.notify()

    def dropped(self, camera: int = 0) -> int:
        return self._dropped[camera]

    def _next(self) -> tuple[int, Frame] | None:
        count = len(self._frames)
        for step in range(1, count + 1):
            camera = (self._last + step) % count
            frame = self._frames[camera]
            if frame is not None and not self._held[camera]:
                self._frames[camera], self._held[camera], self._last = None, True, camera
                return camera, frame
        return None


class FrameRateLimiter:
    """Limits a loop to `fps`. After a long pause it starts anew from now instead of catching up."""

    def __init__(self, fps: float) -> None:
        self._step = 1.0 / fps
        self._next = time.monotonic()

    def wait(self, timeout_seconds: float) -> bool:
        """Sleeps until the next frame is due; returns False where that is later than `timeout_seconds` from now."""
        now = time.monotonic()
        delay = self._next - now
        if delay > timeout_seconds:
            time.sleep(timeout_seconds)
            return False
        if delay > 0:
            time.sleep(delay)
        self._next = max(self._next + self._step, now)
        return True
