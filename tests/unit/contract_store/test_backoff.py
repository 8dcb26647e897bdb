"""Pauses between tries."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.store.base import StoreError, StoreUnavailable
from atoll_contract.store.retry import Backoff, Retryable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def failing(times: int, *, tries: int | None = None) -> tuple[Callable[[], str], list[int]]:
    """An operation that fails so many times, and the list of its calls."""
    calls: list[int] = []

    def operation() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise Retryable(StoreUnavailable("503"), tries=tries)
        return "done"

    return operation, calls


@given(dice=st.floats(0, 1), tries=st.integers(1, 2000))
def test_delays_grow_up_to_the_largest(dice: float, tries: int) -> None:
    backoff = Backoff(dice=lambda: dice)
    assert 0.25 <= backoff.delay(tries) <= 30
    assert backoff.delay(tries) <= backoff.delay(tries + 1)


def test_delays_take_no_number_from_the_generator_that_a_training_seeds() -> None:
    before = random.getstate()
    delays = {Backoff().delay(1) for _ in range(20)}
    assert random.getstate() == before
    assert len(delays) > 1


@given(failures=st.integers(0, 100), dice=st.floats(0, 1), total=st.floats(0, 500))
def test_the_total_time_of_retries_is_bounded(failures: int, dice: float, total: float) -> None:
    clock = Clock()
    backoff = Backoff(total=total, sleep=clock.sleep, clock=lambda: clock.now, dice=lambda: dice)
    operation, calls = failing(failures)
    try:
        assert backoff.call(operation) == "done"
    except StoreError as error:
        assert len(calls) == 1 or f"({len(calls)} tries in" in error.message  # noqa: PT017 (both ends are right)
        assert clock.now + backoff.delay(len(calls)) > total
    assert clock.now <= total


def test_each_failure_is_told_before_the_next_try() -> None:
    clock, told = Clock(), []
    operation, calls = failing(2)
    backoff = Backoff(sleep=clock.sleep, clock=lambda: clock.now, on_failure=lambda error: told.append(len(calls)))
    assert backoff.call(operation) == "done"
    assert told == [1, 2]
    operation, calls = failing(9, tries=2)
    with pytest.raises(StoreUnavailable):
        backoff.call(operation)
    # The last error is raised and not told.
    assert told == [1, 2, 1]


@pytest.mark.parametrize(("allowed", "expected"), [(1, 1), (2, 2), (3, 3)])
def test_an_error_can_bound_the_number_of_tries(allowed: int, expected: int) -> None:
    operation, calls = failing(10, tries=allowed)
    with pytest.raises(StoreUnavailable):
        Backoff(sleep=lambda _: None).call(operation)
    assert len(calls) == expected
