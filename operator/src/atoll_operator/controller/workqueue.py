"""The operator's work queue: a key is in it at most once, and at most one worker has it.

Event handlers and timers only `add` keys. A key added while a worker has it runs once more afterwards. A key that
failed waits longer each time and does not hold up others; events do not shorten that wait.
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


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after the n-th failure in a row: doubled each time up to `cap`, then spread by `jitter`."""

    first: float = 0.5
    cap: float = 60.0
    jitter: float = 0.2

    def delay(self, failures: int, *, spread: float) -> float:
        """The wait after `failures` ≥ 1 failures; `spread` in 0…1 places it in the jittered range."""
        # 2**16 times `first` is past every cap; the exponent is bounded so that it cannot overflow.
        base = min(self.cap, self.first * 2.0 ** min(failures - 1, 16))
        return base * (1 - self.jitter + 2 * self.jitter * spread)


class WorkQueue:
    """For one event loop. `clock` is monotonic seconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        backoff: Backoff | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._spread = spread
        # When each waiting key is due. The heap may hold outdated entries; this dict says which are not.
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        # Keys that a worker has, and when those of them that were added meanwhile are due again.
        self._active: set[Key] = set()
        self._added_meanwhile: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        # Who waits in `get`: one is woken for a key, not all of them.
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """Keys that wait, those for a later time included."""
        return len(self._due) + len(self._added_meanwhile)

    def add(self, key: Key, *, delay: float = 0.0) -> None:
        """Have `key` worked on in `delay` seconds; the earliest of several calls holds."""
        due = max(self._clock() + delay, self._not_before.get(key, 0.0))
        waiting = self._added_meanwhile if key in self._active else self._due
        if waiting.get(key, due + 1) <= due:
            return
        waiting[key] = due
        if waiting is self._due:
            heapq.heappush(self._heap, (due, next(self._order), key))
            if self._heap[0][0] == due:
                self._wake()

    async def get(self) -> Key:
        """The next key that is due; the caller owes `done` or `failed` for it."""
        while True:
            key = self.get_due()
            if key is not None:
                # Somebody has to see to the keys after this one, at once or at their time.
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
        """Has one of those that wait look at the queue anew."""
        while self._heap and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def get_due(self) -> Key | None:
        """As `get`, but None where no key is due at this moment."""
        wait = self._seconds_to_next()
        if wait is None or wait > 0:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._active.add(key)
        return key

    def done(self, key: Key, *, again_after: float | None = None) -> None:
        """The work on `key` succeeded; look again after that many seconds, if given."""
        self._active.discard(key)
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        due = self._added_meanwhile.pop(key, None)
        if due is not None:
            self.add(key, delay=due - self._clock())
        if again_after is not None:
            self.add(key, delay=again_after)

    def failed(self, key: Key, *, at_least: float = 0.0) -> float:
        """The work on `key` failed: try again after the backoff, which is returned (seconds)."""
        self._active.discard(key)
        self._added_meanwhile.pop(key, None)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(at_least, self._backoff.delay(failures, spread=self._spread()))
        self._not_before[key] = self._clock() + delay
        self.add(key)
        return delay

    def _seconds_to_next(self) -> float | None:
        """Until the first key is due; None if none waits."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                return due - self._clock()
            heapq.heappop(self._heap)
        return None


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
