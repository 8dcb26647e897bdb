"""A place for one frame: the newest replaces the one that nobody took."""

import threading

from atoll_edge.frames.frame import Frame


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
