"""A thread that survives unforeseen errors: it logs them and continues. It has the agent's only `except Exception`.

Nobody can restart a camera on the field. A thread that only fails is reported by `healthy`; the program then ends, and
systemd or the kubelet starts it anew.
"""

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

# Pause after an error.
PAUSE_SECONDS = 0.5
# A thread that only fails still counts as healthy for this long.
FAILING_SECONDS = 30.0
# Of this many failures in a row one is logged, with its traceback.
LOG_EVERY = 120


class RepeatingThread:
    """Calls `step` until `stopping` is set, with `every_seconds` between two calls."""

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
        if self._thread.ident is not None:  # was started
            self._thread.join(timeout_seconds)

    @property
    def healthy(self) -> bool:
        """Whether the thread runs, and has not failed without a success for FAILING_SECONDS."""
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
        """Waits; returns whether the thread is to end."""
        return self._stopping.wait(seconds) if seconds else self._stopping.is_set()

    def _failed(self) -> bool:
        """Counts a failure, and returns whether to log it."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self._failures += 1
        return self._failures % LOG_EVERY == 1
