"""When to look into the store: steadily with jitter, seldom after failures, never while the match holds. Pure."""

from dataclasses import dataclass, field
from random import Random

MAX_BACKOFF_SECONDS = 300.0
JITTER = 0.2


@dataclass
class Schedule:
    """Times are seconds of a monotonic clock that the caller passes in: no clock of the day is needed."""

    every_seconds: float
    random: Random = field(default_factory=Random)
    failures: int = 0
    next_at: float = 0.0

    def due(self, now: float, *, locked: bool) -> bool:
        return not locked and now >= self.next_at

    def succeeded(self, now: float) -> None:
        self.failures = 0
        self.next_at = now + self._jittered(self.every_seconds)

    def failed(self, now: float) -> None:
        self.failures += 1
        wait = min(self.every_seconds * 2.0 ** min(self.failures - 1, 16), MAX_BACKOFF_SECONDS)
        self.next_at = now + self._jittered(max(wait, self.every_seconds))

    def _jittered(self, seconds: float) -> float:
        return seconds * self.random.uniform(1 - JITTER, 1 + JITTER)
