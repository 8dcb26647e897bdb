"""How much of the time may go into calls that can wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds of calls that are saved up at most: some trouble in a quiet cluster is looked at without a wait.
SAVED_UP = 3.0


class Allowance:
    """A share of the time, of which SAVED_UP seconds at most are saved up. What a call takes is what it costs: an API
    server that is asked for much answers late, and is then asked for less. `clock` is monotonic; safe for several
    threads."""

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._left, self._at = SAVED_UP, clock()
        self._lock = threading.Lock()

    @property
    def is_spent(self) -> bool:
        """Whether no call may be made now."""
        with self._lock:
            return self._fill() <= 0

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Counts the time of the calls that are made within. Whether there is some left is not asked here."""
        begin = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._left = self._fill() - (self._clock() - begin)

    def _fill(self) -> float:
        now = self._clock()
        self._left, self._at = min(SAVED_UP, self._left + (now - self._at) * self._share), now
        return self._left
