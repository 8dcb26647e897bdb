"""Calls that can wait take a share of the time, whatever one of them costs."""

from __future__ import annotations

import contextlib

import pytest

from atoll_operator.controller.workqueue import SAVED_UP, Allowance


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [0.004, 0.1, 2.0])
def test_the_share_is_kept_to_in_the_long_run(seconds: float) -> None:
    clock = Clock()
    allowance = Allowance(0.1, clock)
    spent, begin = 0.0, clock.now
    while clock.now < begin + 1000:
        if allowance.is_spent:
            clock.now += 0.01
            continue
        with allowance.spend():
            clock.now += seconds
        spent += seconds
    assert spent == pytest.approx(SAVED_UP + 100, abs=seconds + 1)


def test_what_is_saved_up_is_bounded() -> None:
    clock = Clock()
    allowance = Allowance(0.1, clock)
    clock.now += 3600
    with allowance.spend():
        clock.now += SAVED_UP + 1
    assert allowance.is_spent


def test_a_call_that_fails_costs_its_time() -> None:
    clock = Clock()
    allowance = Allowance(0.1, clock)
    with contextlib.suppress(OSError), allowance.spend():
        clock.now += 2 * SAVED_UP
        raise OSError("lost")
    assert allowance.is_spent
