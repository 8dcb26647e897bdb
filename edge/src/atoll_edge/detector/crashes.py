"""When a detector that keeps dying moves to the CPU, and when the Edge TPU is tried again. Pure: time is passed in."""

from collections import deque

from atoll_edge.detector.backends import Backend

WINDOW_SECONDS = 60.0
MAX_LOSSES = 3
PROBE_SECONDS = 30.0
PAUSES = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)


class Losses:
    """Counts losses of the detector. Three of the Edge TPU within a minute move it to the CPU."""

    def __init__(self, *, cpu_allowed: bool) -> None:
        self._cpu_allowed = cpu_allowed
        self._times: deque[float] = deque()
        self._next_probe = 0.0
        self.total = 0
        # Whether the Edge TPU was given up for now.
        self.fallen_back = False

    def lost(self, backend: Backend, now: float) -> None:
        self.total += 1
        self._times.append(now)
        self._forget(now)
        if backend is Backend.EDGETPU and self._cpu_allowed and len(self._times) >= MAX_LOSSES:
            self.give_up(now)

    def give_up(self, now: float) -> None:
        """Use the CPU from now on, and probe for the Edge TPU later."""
        self.fallen_back = True
        self._next_probe = now + PROBE_SECONDS
        self._times.clear()

    def probe_due(self, now: float) -> bool:
        """Whether to try the Edge TPU again; says yes once per interval."""
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_SECONDS
        return True

    def recovered(self) -> None:
        """The Edge TPU answers again."""
        self.fallen_back = False

    def pause(self, now: float) -> float:
        """Seconds to wait before the next start: none for the first losses, more for a crash loop."""
        self._forget(now)
        return PAUSES[min(len(self._times), len(PAUSES) - 1)]

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - WINDOW_SECONDS:
            self._times.popleft()
