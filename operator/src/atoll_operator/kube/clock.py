"""The time as the API server has it, so that a node whose clock is wrong or jumps moves no deadline.

The server dates each of its answers to the second. Between two answers time goes on by the monotonic clock. Safe for
several threads.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

logger = logging.getLogger(__name__)

# From here on the node's own clock is worth a line in the log, and how often.
SKEW_SECONDS = 60.0
SKEW_EVERY_SECONDS = 600.0


class ServerClock:
    """Call it for the time; `heard` is told of every answer. Before the first one it is the node's own clock."""

    def __init__(
        self, *, own: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = own
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Server's time minus monotonic time.
        self._offset: float | None = None
        self._told_at: float | None = None

    def __call__(self) -> datetime:
        with self._lock:
            seconds = self._own() if self._offset is None else self._offset + self._monotonic()
        return datetime.fromtimestamp(seconds, UTC)

    def heard(self, date: str | None, *, asked_at: float) -> None:
        """An answer with this `Date` to a request of the monotonic time `asked_at`."""
        try:
            dated = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        now = self._monotonic()
        with self._lock:
            # It was written after the request and before now, in the second that it names.
            lowest, highest = dated - now, dated + 1 - asked_at
            offset = self._offset if self._offset is not None else lowest
            self._offset = min(max(offset, lowest), highest)
            skew = self._own() - (self._offset + now)
            tell = abs(skew) >= SKEW_SECONDS and (self._told_at is None or now - self._told_at >= SKEW_EVERY_SECONDS)
            if tell:
                self._told_at = now
        if tell:
            where = "ahead of" if skew > 0 else "behind"
            logger.warning("this node's clock is %.0f s %s the API server's; the server's counts", abs(skew), where)
