"""The time as the API server has it, so that a node whose clock is wrong or jumps moves no deadline.

The server dates each answer to the second. Between two answers the monotonic clock counts on.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

logger = logging.getLogger(__name__)

# A node's clock that is this far off is logged, at most this often.
SKEW_SECONDS = 60.0
SKEW_EVERY_SECONDS = 600.0


@dataclass(frozen=True)
class TimeSource:
    """`now` gives the time by which a run's deadlines count; `monotonic` gives seconds, to measure intervals with."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic


class ServerClock:
    """Returns the time when called: the server's, or before its first answer the node's own.

    It may be used by several threads. `own` gives the node's Unix time, `monotonic` its monotonic one, in seconds.
    """

    def __init__(
        self, *, own: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = own
        self._monotonic = monotonic
        # Guards the two fields below, which each answer may change.
        self._lock = threading.Lock()
        # The server's time minus the monotonic one.
        self._offset: float | None = None
        self._warned_at: float | None = None

    def __call__(self) -> datetime:
        with self._lock:
            seconds = self._own() if self._offset is None else self._offset + self._monotonic()
        return datetime.fromtimestamp(seconds, UTC)

    def observe(self, date: str | None, *, requested_at: float) -> None:
        """Takes the `Date` header of an answer to a request that was sent at this monotonic time."""
        try:
            dated = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        now = self._monotonic()
        with self._lock:
            # The answer was dated after the request and before now, in the second that it names.
            lowest, highest = dated - now, dated + 1 - requested_at
            offset = self._offset if self._offset is not None else lowest
            self._offset = min(max(offset, lowest), highest)
            skew = self._own() - (self._offset + now)
            is_due = self._warned_at is None or now - self._warned_at >= SKEW_EVERY_SECONDS
            warn = is_due and abs(skew) >= SKEW_SECONDS
            if warn:
                self._warned_at = now
        if warn:
            where = "ahead of" if skew > 0 else "behind"
            logger.warning("this node's clock is %.0f s %s the API server's; the server's counts", abs(skew), where)
