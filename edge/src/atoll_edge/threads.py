"""Threads that no fault ends: what nobody foresaw is logged, and the work goes on. The agent's one `except Exception`.

A robot on the field has nobody who restarts its camera; and what fails again and again is told by `healthy`, upon which
the program ends and is started anew by systemd or the kubelet.
"""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
# So long may a thread do nothing but fail.
FAILING_SECONDS = 30.0
# The same fault is logged with its traceback once in so many times.
LOG_EVERY = 120


class SteadyThread:
    """Calls `step` again and again until `stopping` is set, with `every_seconds` between two calls."""

    def __init__(
        self, name: str, step: Callable[[], None], stopping: threading.Event, *, every_seconds: float = 0.0
    ) -> None:
        self._name = name
        self._step = step
        self._stopping = stopping
        self._every_seconds = every_seconds
        self._failing_since: float | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_seconds: float) -> None:
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout_seconds)

    @property
    def healthy(self) -> bool:
        """Whether it runs, and did not only fail for a while."""
        since = self._failing_since
        return self._thread.is_alive() and (since is None or time.monotonic() - since < FAILING_SECONDS)

    def _run(self) -> None:
        while not self._pause(self._every_seconds):
            try:
                self._step()
            except Exception:
                if self._failed():
                    logger.exception("a fault in the thread %r, which goes on", self._name)
                self._pause(PAUSE_SECONDS)
            else:
                self._failing_since, self._failures = None, 0

    def _pause(self, seconds: float) -> bool:
        """Whether it is time to end."""
        return self._stopping.wait(seconds) if seconds else self._stopping.is_set()

    def _failed(self) -> bool:
        """Count a failure; whether it is one to be logged."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self._failures += 1
        return self._failures % LOG_EVERY == 1
