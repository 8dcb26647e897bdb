"""The bytes that all streams of a device may send in all: the field gives a robot a few megabits in a second."""

import threading
import time

# A viewer may use what it left over for this long: one JPEG is larger than the share of one frame's time.
BURST_SECONDS = 0.5


class Bandwidth:
    """Shares `megabits` a second evenly among those who view a stream now, on any port."""

    def __init__(self, megabits: float) -> None:
        self._bytes_per_second = megabits * 1e6 / 8
        self._lock = threading.Lock()
        self._shares = 0

    def share(self) -> "BandwidthShare":
        """Returns the share of one more viewer, which gives it back by `close`."""
        with self._lock:
            self._shares += 1
        return BandwidthShare(self, time.monotonic())

    def release(self) -> None:
        with self._lock:
            self._shares -= 1

    @property
    def bytes_per_second(self) -> float:
        """Of one share."""
        with self._lock:
            return self._bytes_per_second / max(1, self._shares)


class BandwidthShare:
    """The share of one viewer. Used by its thread alone, with the monotonic time passed in."""

    def __init__(self, bandwidth: Bandwidth, now: float) -> None:
        self._bandwidth = bandwidth
        self._left = 0.0
        self._at = now

    def allows(self, now: float) -> bool:
        """Whether a frame may be sent now. Its size does not matter: what it takes too much, the next ones wait for."""
        rate = self._bandwidth.bytes_per_second
        self._left = min(self._left + (now - self._at) * rate, rate * BURST_SECONDS)
        self._at = now
        return self._left >= 0

    def take(self, size: int) -> None:
        """Counts bytes that were sent."""
        self._left -= size

    def close(self) -> None:
        self._bandwidth.release()
