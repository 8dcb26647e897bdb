"""Calls that can wait take a share of the time, whatever one of them costs."""

from __future__ import annotations

import contextlib

import pytest

from atoll_operator.controller.workqueue import MAX_SAVED_SECONDS, TimeBudget


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [0.004, 0.1, 2.0])
def test_the_share_is_kept_to_in_the_long_run(seconds: float) -> None:
    clock = Clock()
    budget = TimeBudget(0.1, clock)
    spent, begin = 0.0, clock.now
    while clock.now < begin + 1000:
        if budget.is_spent:
            clock.now += 0.01
            continue
        with budget.spend():
            clock.now += seconds
        spent += seconds
    assert spent == pytest.approx(MAX_SAVED_SECONDS + 100, abs=seconds + 1)


def test_what_is_saved_up_is_bounded() -> None:
    clock = Clock()
    budget = TimeBudget(0.1, clock)
    clock.now += 3600
    with budget.spend():
        clock.now += MAX_SAVED_SECONDS + 1
    assert budget.is_spent


def test_a_call_that_fails_costs_its_time() -> None:
    clock = Clock()
    budget = TimeBudget(0.1, clock)
    with contextlib.suppress(OSError), budget.spend():
        clock.now += 2 * MAX_SAVED_SECONDS
        raise OSError("lost")
    assert budget.is_spent
