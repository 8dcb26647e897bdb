"""Measures of the pipeline that other threads read: its rate, its latencies, and the expected interval of results."""

import threading
from collections import deque

from atoll_contract.document import Document

KEPT_SAMPLES = 300
# The rate is averaged over this many events, none of them older than RATE_SECONDS.
RATE_FRAMES = 30
RATE_SECONDS = 2.0
# A longer pause between two frames means that the camera is gone, not that it is slow.
MAX_INTERVAL_SECONDS = 1.0


class Quantiles(Document, frozen=True):
    """Median and 95th percentile in milliseconds; None before the first sample."""

    p50: float | None
    p95: float | None


class Samples:
    """The newest samples of a duration in seconds. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: deque[float] = deque(maxlen=KEPT_SAMPLES)

    def add(self, seconds: float) -> None:
        with self._lock:
            self._values.append(seconds)

    def quantiles(self) -> Quantiles:
        with self._lock:
            ordered = sorted(self._values)
        if not ordered:
            return Quantiles(None, None)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95)]
        return Quantiles(round(at[0] * 1000, 2), round(at[1] * 1000, 2))


class Rate:
    """The rate of the newest events, per second. Safe from any thread."""

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


class ResultInterval:
    """The expected time between two results: that of the camera, of the detector or of `fps_limit`."""

    def __init__(self) -> None:
        self._frame_at: float | None = None
        self._frame_seconds = 0.0
        self._result_seconds = 0.0

    def frame_arrived(self, now: float) -> None:
        if self._frame_at is not None:
            self._frame_seconds = now - self._frame_at
        self._frame_at = now

    def result_took(self, seconds: float) -> None:
        self._result_seconds = seconds

    def seconds(self, fps_limit: float) -> float:
        requested = 1.0 / fps_limit if fps_limit > 0 else 0.0
        return max(requested, min(max(self._frame_seconds, self._result_seconds), MAX_INTERVAL_SECONDS))
