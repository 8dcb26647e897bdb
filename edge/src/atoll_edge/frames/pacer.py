"""Steady frame times for sources that are not cameras."""

import time


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
