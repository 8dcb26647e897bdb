"""Detector children: one that serves, one that waits with its packages imported, and those that end.

Most of a child's start is Python and its imports, seconds on a Pi. So one waits without a model: what dies is replaced
within the time that loading the model takes, and a new model is loaded beside the one that serves.
"""

import logging
import threading
from collections.abc import Callable

from atoll_edge.detector.backend import Backend
from atoll_edge.detector.client import DetectorClient, DetectorLost

logger = logging.getLogger(__name__)

# After a start, before the spare is made: the model that starts has the processor for itself.
SPARE_SECONDS = 3.0


class Children:
    """Makes and ends children. Used by the detector thread alone."""

    def __init__(self, spawn: Callable[[Backend], DetectorClient], spare: DetectorClient | None = None) -> None:
        self._spawn = spawn
        self._spare = spare
        self._spare_at = 0.0

    @property
    def spare_pid(self) -> int | None:
        return None if self._spare is None else self._spare.pid

    def take(self, backend: Backend, now: float) -> DetectorClient:
        """A child for `backend`: the spare where it fits and lives, else a new one.

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

    def keep_spare(self, backend: Backend, now: float) -> None:
        """Have a spare for `backend`, once what was started last has had its time."""
        if self._spare is None and now >= self._spare_at:
            self._spare_at = now + SPARE_SECONDS
            try:
                self._spare = self.start(backend)
            except DetectorLost as loss:
                logger.warning("there is no spare detector: %s", loss.reason)

    def retire(self, client: DetectorClient) -> None:
        """End a child without waiting for it: the memory of a large one takes a while to be freed."""
        threading.Thread(target=client.close, name="retire", daemon=True).start()

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def start(self, backend: Backend) -> DetectorClient:
        """A new child. Raises DetectorLost."""
        try:
            return self._spawn(backend)
        except OSError as error:
            raise DetectorLost(f"the detector cannot be started: {error}") from None
