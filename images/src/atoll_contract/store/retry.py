"""Waiting between tries: exponential, jittered, and bounded in all."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from atoll_contract.store.base import StoreError

T = TypeVar("T")


class Retryable(Exception):
    """One try failed with `error`; never leaves a store. `tries` is how many are worth it; None: what time allows."""

    def __init__(self, error: StoreError, *, tries: int | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.tries = tries


@dataclass(frozen=True)
class Backoff:
    """Delays of `first`, twice that, … up to `largest` seconds, each between half and all of it, until `total`
    seconds have passed. Clock, sleep and dice are parameters for tests."""

    first: float = 0.5
    largest: float = 30.0
    total: float = 180.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random

    def call(self, operation: Callable[[], T]) -> T:
        """The operation's answer, after as many tries as it takes.

        Raises:
            StoreError: that of the last try, with the number of tries and the time they took.
        """
        started = self.clock()
        tries = 0
        while True:
            try:
                return operation()
            except Retryable as failure:
                tries += 1
                delay = self.delay(tries)
                spent = self.clock() - started
                if (failure.tries is not None and tries >= failure.tries) or spent + delay > self.total:
                    raise _counted(failure.error, tries, spent) from failure.__cause__
                self.sleep(delay)

    def delay(self, tries: int) -> float:
        """Seconds to wait after the `tries`-th failure."""
        ceiling = min(self.first * 2.0 ** min(tries - 1, 32), self.largest)
        return ceiling * (0.5 + 0.5 * self.dice())


def _counted(error: StoreError, tries: int, spent: float) -> StoreError:
    if tries > 1:
        error.message = f"{error.message} ({tries} tries in {spent:.0f} s)"
        error.args = (error.message,)
    return error
