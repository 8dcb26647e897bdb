"""How long ago each device was heard of, without trusting that two machines' clocks agree.

The bucket's times are compared with this machine's once, when the mirror first sees a report; from then on a report
that changes is new, and one that does not ages by this process's own monotonic clock. So a bucket whose clock is ahead
cannot keep a dead device alive.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from atoll_operator.mirror.reports import Seen


@dataclass(frozen=True)
class _Sighting:
    modified: tuple[str, float]
    age_then: float
    at: float


class Sightings:
    """Ages of reports; `wall` tells seconds since 1970, `clock` monotonic seconds."""

    def __init__(self, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall = wall
        self._clock = clock
        self._last: dict[str, _Sighting] = {}

    def age(self, seen: Seen) -> float:
        """Seconds since the device's report changed."""
        modified, now = (seen.etag, seen.modified_at), self._clock()
        last = self._last.get(seen.device)
        if last is None:
            last = _Sighting(modified, max(0.0, self._wall() - seen.modified_at), now)
        elif last.modified != modified:
            last = _Sighting(modified, 0.0, now)
        self._last[seen.device] = last
        return last.age_then + now - last.at

    def keep(self, devices: Iterable[str]) -> None:
        """Forgets all others."""
        kept = set(devices)
        self._last = {device: last for device, last in self._last.items() if device in kept}
