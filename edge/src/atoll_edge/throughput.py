"""Running figures of the pipeline that other threads read: rate and latencies."""

import threading
from collections import deque

from atoll_contract.document import Document

KEEP = 300
# Intervals that the rate is averaged over.
RATE_FRAMES = 30
# A rate that is older than this is zero.
RATE_SECONDS = 2.0


class Quantiles(Document, frozen=True):
    """Milliseconds; None before the first sample."""

    p50: float | None
    p95: float | None


class Samples:
    """The newest samples of a duration, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: deque[float] = deque(maxlen=KEEP)

    def add(self, seconds: float) -> None:
        with self._lock:
            self._values.append(seconds)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    def quantiles(self) -> Quantiles:
        with self._lock:
            ordered = sorted(self._values)
        if not ordered:
            return Quantiles(None, None)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95)]
        return Quantiles(round(at[0] * 1000, 2), round(at[1] * 1000, 2))


class Rate:
    """Events per second over the newest ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=RATE_FRAMES)

    def tick(self, now: float) -> None:
        with self._lock:
            self._times.append(now)

    def value(self, now: float) -> float:
        with self._lock:
            times = [time for time in self._times if time > now - RATE_SECONDS]
        if len(times) < 2:
            return 0.0
        return round((len(times) - 1) / (times[-1] - times[0]), 2) if times[-1] > times[0] else 0.0


# A longer pause between two frames is a camera that is gone, not one that is slow.
SLOWEST_PACE_SECONDS = 1.0


class Pace:
    """How long it takes from one answer to the next where all is well: by the camera, the detector, or as asked."""

    def __init__(self) -> None:
        self._frame_at: float | None = None
        self._frame_seconds = 0.0
        self._answer_seconds = 0.0

    def frame(self, now: float) -> None:
        """A frame came."""
        if self._frame_at is not None:
            self._frame_seconds = now - self._frame_at
        self._frame_at = now

    def answer(self, seconds: float) -> None:
        """An answer took so long."""
        self._answer_seconds = seconds

    def seconds(self, fps_limit: float) -> float:
        asked = 1.0 / fps_limit if fps_limit > 0 else 0.0
        return max(asked, min(max(self._frame_seconds, self._answer_seconds), SLOWEST_PACE_SECONDS))
