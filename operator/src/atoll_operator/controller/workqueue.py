"""The work queue, in which a key is at most once and which hands it to at most one worker; and time budgets of workers.

Event handlers and timers only `add` keys. A key that is added while a worker has it is handed out once more afterwards.
A key that failed waits longer each time and does not hold up others; events do not shorten that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Namespace and name of a TrainingRun.
Key = tuple[str, str]
# What a time budget saves up at most, in seconds of calls: in a quiet cluster nothing waits.
MAX_SAVED_SECONDS = 3.0
# How much earlier than all others a key is due that goes ahead.
_AHEAD_SECONDS = 86400.0
# Not the generator of the module `random`, whose state the whole process shares.
_JITTER = random.SystemRandom()


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after the n-th failure in a row: doubled each time up to `cap`, then spread by `jitter`."""

    first: float = 0.5
    cap: float = 60.0
    jitter: float = 0.2

    def delay(self, failures: int, *, spread: float) -> float:
        """Returns the wait after `failures` ≥ 1 failures; `spread` (0…1) is its place in the jittered range."""
        # 2**16 times `first` is past every cap; the exponent is bounded so that it cannot overflow.
        base = min(self.cap, self.first * 2.0 ** min(failures - 1, 16))
        return base * (1 - self.jitter + 2 * self.jitter * spread)


class WorkQueue:
    """For one event loop. `clock` gives monotonic seconds, `spread` random numbers from 0 to 1."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        backoff: Backoff | None = None,
        spread: Callable[[], float] = _JITTER.random,
    ) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._spread = spread
        # When each waiting key is due. The heap may hold outdated entries; those in this dict are valid.
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        # Keys that a worker has, and when those are due again that were added meanwhile.
        self._active: set[Key] = set()
        self._added_meanwhile: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        # Workers that wait in `get`: a key wakes one of them, not all.
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """The number of keys that wait, those for a later time included."""
        return len(self._due) + len(self._added_meanwhile)

    def add(self, key: Key, *, delay: float = 0.0, ahead: bool = False) -> None:
        """Has `key` handed out in `delay` seconds, or `ahead` of all others that wait; of several calls the earliest
        time holds. A key that failed waits all the same."""
        due = self._clock() + (-_AHEAD_SECONDS if ahead else delay)
        due = max(due, self._not_before.get(key, due))
        waiting = self._added_meanwhile if key in self._active else self._due
        if waiting.get(key, due + 1) <= due:
            return
        waiting[key] = due
        if waiting is self._due:
            heapq.heappush(self._heap, (due, next(self._order), key))
            if self._heap[0][0] == due:
                self._wake()

    async def get(self) -> Key:
        """Waits for the next key that is due. The caller has to call `done` or `failed` with it."""
        while True:
            key = self.get_due()
            if key is not None:
                # Another worker has to take the next key, at once or when it is due.
                self._wake()
                return key
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                # A time-out only means that the next key may be due now.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(waiter, self._seconds_to_next())
            finally:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)

    def _wake(self) -> None:
        """Has one worker that waits check the queue again."""
        while self._heap and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def get_due(self) -> Key | None:
        """Returns the next key that is due, or None where none is due now."""
        wait = self._seconds_to_next()
        if wait is None or wait > 0:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._active.add(key)
        return key

    def done(self, key: Key, *, requeue_after: float | None = None) -> None:
        """Called when the work on `key` succeeded; it is handed out again after that many seconds, if given."""
        self._active.discard(key)
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        due = self._added_meanwhile.pop(key, None)
        if due is not None:
            self.add(key, delay=due - self._clock())
        if requeue_after is not None:
            self.add(key, delay=requeue_after)

    def failed(self, key: Key, *, min_delay: float = 0.0) -> float:
        """Called when the work on `key` failed; it is handed out again after the backoff, which is returned (s)."""
        self._active.discard(key)
        self._added_meanwhile.pop(key, None)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(min_delay, self._backoff.delay(failures, spread=self._spread()))
        self._not_before[key] = self._clock() + delay
        self.add(key)
        return delay

    def _seconds_to_next(self) -> float | None:
        """Returns the seconds until the first key is due; None if none waits."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due - self._clock()
            heapq.heappop(self._heap)
        return None


class TimeBudget:
    """A share of the time for calls that can wait. A call costs the time that it takes: an API server under load
    answers late, and is then called less. For several threads; `clock` is monotonic."""

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        # Guards the seconds that are left, and when they were last counted.
        self._lock = threading.Lock()
        self._left, self._counted_at = MAX_SAVED_SECONDS, clock()

    @property
    def is_spent(self) -> bool:
        """Whether no call may be made now."""
        with self._lock:
            return self._refilled() <= 0

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Subtracts the time of the calls made within, whether or not there is any left."""
        begin = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._left = self._refilled() - (self._clock() - begin)

    def _refilled(self) -> float:
        now = self._clock()
        saved = self._left + (now - self._counted_at) * self._share
        self._left, self._counted_at = min(MAX_SAVED_SECONDS, saved), now
        return self._left
