"""Waiting for something to become true, with a deadline instead of a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    probe: Callable[[], T | None], *, what: str, timeout_seconds: float = 30.0, interval_seconds: float = 0.05
) -> T:
    """Calls `probe` until it answers something true, and returns that. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout_seconds:g} s in vain for {what}; the last answer was {answer!r}")
        time.sleep(interval_seconds)
