"""Waiting between tries: exponential, with jitter, and bounded in total."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from atoll_contract.store.base import StoreError

T = TypeVar("T")

# Not the generator of the module `random`: a training seeds that one for its initial weights.
_JITTER = random.SystemRandom()


class Retryable(Exception):
    """One try failed with `error`; only raised inside a store. `tries` is the maximum number of tries; None: as many as
    time allows."""

    def __init__(self, error: StoreError, *, tries: int | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.tries = tries


def exponential(failures: int, *, first: float, largest: float) -> float:
    """Seconds to wait after `failures` in a row: `first`, doubled each time up to `largest`; 0 before any failure."""
    # The exponent is bounded, since a float overflows.
    return min(first * 2.0 ** min(failures - 1, 64), largest) if failures > 0 else 0.0


@dataclass(frozen=True)
class Backoff:
    """Delays of `first`, twice that, … up to `largest` seconds, each multiplied by a random number from 0.5 to 1, until
    `total` seconds have passed. `on_failure` is called before each delay, `on_success` after each operation that
    succeeded. Tests give `sleep`, `clock` and `dice`."""

    first: float = 0.5
    largest: float = 30.0
    total: float = 180.0
    on_failure: Callable[[StoreError], None] = lambda _: None
    on_success: Callable[[], None] = lambda: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = _JITTER.random

    def call(self, operation: Callable[[], T]) -> T:
        """Calls `operation` until it succeeds, and returns its result.

        Raises:
            StoreError: that of the last try, with the number of tries and the time they took.
        """
        started = self.clock()
        tries = 0
        while True:
            try:
                result = operation()
            except Retryable as failure:
                tries += 1
                delay = self.delay(tries)
                spent = self.clock() - started
                if (failure.tries is not None and tries >= failure.tries) or spent + delay > self.total:
                    raise _counted(failure.error, tries, spent) from failure.__cause__
                self.on_failure(failure.error)
                self.sleep(delay)
            else:
                self.on_success()
                return result

    def delay(self, tries: int) -> float:
        """Seconds to wait after the `tries`-th failure."""
        return exponential(tries, first=self.first, largest=self.largest) * (0.5 + 0.5 * self.dice())


def _counted(error: StoreError, tries: int, spent: float) -> StoreError:
    if tries > 1:
        error.message = f"{error.message} ({tries} tries in {spent:.0f} s)"
        error.args = (error.message,)
    return error
