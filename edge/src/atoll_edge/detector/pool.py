"""The worker processes of a device: keeps a spare one ready, and tracks crashes.

`WorkerPool` starts and ends processes; `CrashTracker` only counts, with the time passed in.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorClient, DetectorLost

logger = logging.getLogger(__name__)

# Delay before the spare worker is started, so that the model that loads has the processor to itself.
SPARE_SECONDS = 3.0
# This many losses within the window move the detector from an accelerator to the next backend.
WINDOW_SECONDS = 60.0
MAX_LOSSES = 3
# Interval between two probes of an accelerator that was given up.
PROBE_SECONDS = 30.0
# The delay before the next start, by the number of losses within the window.
RESTART_DELAYS = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0)


class WorkerPool:
    """Starts and ends workers. Used by one detector thread alone. `keep_spare`: whether one waits for the next load."""

    def __init__(
        self,
        spawn: Callable[[Backend], DetectorClient],
        spare: DetectorClient | None = None,
        *,
        keep_spare: bool = True,
    ) -> None:
        self._spawn = spawn
        self._spare = spare
        self._keep_spare = keep_spare
        self._spare_at = 0.0

    @property
    def spare_pid(self) -> int | None:
        return None if self._spare is None else self._spare.pid

    def take(self, backend: Backend, now: float) -> DetectorClient:
        """Returns a worker for `backend`: the spare if it has that backend and lives, else a new one.

        Raises:
            DetectorLost: the system cannot start a process now.
        """
        spare, self._spare = self._spare, None
        self._spare_at = now + SPARE_SECONDS
        if spare is not None and spare.backend is backend and spare.alive:
            return spare
        if spare is not None:
            self.retire(spare)
        return self.start(backend)

    def ensure_spare(self, backend: Backend, now: float) -> None:
        """Starts a spare for `backend` if there is none and the last start was a while ago."""
        if self._keep_spare and self._spare is None and now >= self._spare_at:
            self._spare_at = now + SPARE_SECONDS
            try:
                self._spare = self.start(backend)
            except DetectorLost as loss:
                logger.warning("there is no spare detector: %s", loss.reason)

    def retire(self, client: DetectorClient) -> None:
        """Ends a worker without waiting for it: the system takes a while to free the memory of a large one."""
        threading.Thread(target=client.close, name="retire", daemon=True).start()

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def start(self, backend: Backend) -> DetectorClient:
        """Starts a new worker. Raises DetectorLost if the system cannot."""
        try:
            return self._spawn(backend)
        except OSError as error:
            raise DetectorLost(f"the detector cannot be started: {error}") from None


class CrashTracker:
    """Counts lost workers, gives an accelerator up after three losses in a minute, and delays restarts."""

    def __init__(self, *, may_give_up: bool) -> None:
        self._may_give_up = may_give_up
        self._times: deque[float] = deque()
        self._next_probe = 0.0
        # The accelerators in whose place another backend runs the model.
        self.given_up: set[Backend] = set()

    def lost(self, backend: Backend, now: float) -> None:
        self._times.append(now)
        self._drop_old(now)
        if backend is not Backend.CPU and self._may_give_up and len(self._times) >= MAX_LOSSES:
            self.give_up(backend, now)

    def give_up(self, backend: Backend, now: float) -> None:
        """Does without an accelerator from now on, and probes it later."""
        self.given_up.add(backend)
        self._next_probe = now + PROBE_SECONDS
        self._times.clear()

    def probe_due(self, now: float) -> bool:
        """Returns whether to try a better accelerator again; True at most once per PROBE_SECONDS."""
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_SECONDS
        return True

    def recovered(self, backend: Backend) -> None:
        """Called when an accelerator answers again."""
        self.given_up.discard(backend)

    def restart_delay(self, now: float) -> float:
        """Returns the seconds to wait before the next start: none after the first losses, more in a crash loop."""
        self._drop_old(now)
        return RESTART_DELAYS[min(len(self._times), len(RESTART_DELAYS) - 1)]

    def _drop_old(self, now: float) -> None:
        while self._times and self._times[0] < now - WINDOW_SECONDS:
            self._times.popleft()
