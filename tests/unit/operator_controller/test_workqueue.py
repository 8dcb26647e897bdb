"""The work queue: deduplicated, one worker a key, backoff that holds up nobody else."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_operator.controller.workqueue import Backoff, Key, WorkQueue

A: Key = ("team", "a")
B: Key = ("team", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock=clock, backoff=Backoff(first=1, cap=8, jitter=0), spread=lambda: 0.5)


def test_a_key_added_twice_is_worked_on_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)
    assert [queue.get_due(), queue.get_due()] == [A, None]


def test_keys_come_in_the_order_they_were_added(queue: WorkQueue) -> None:
    queue.add(B)
    queue.add(A)
    assert [queue.get_due(), queue.get_due()] == [B, A]


def test_a_key_goes_ahead_of_those_that_are_due_longer(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    clock.now += 100
    queue.add(B, ahead=True)
    assert [queue.get_due(), queue.get_due()] == [B, A]


def test_a_key_that_waits_can_be_moved_ahead(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(B, delay=30)
    queue.add(B, ahead=True)
    assert [queue.get_due(), queue.get_due(), queue.get_due()] == [B, A, None]


def test_a_key_that_goes_ahead_while_it_is_worked_on_does_so_afterwards(queue: WorkQueue) -> None:
    queue.add(B)
    queue.get_due()
    queue.add(A)
    queue.add(B, ahead=True)
    queue.done(B)
    assert [queue.get_due(), queue.get_due()] == [B, A]


def test_a_key_that_failed_waits_also_where_it_would_go_ahead(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    queue.get_due()
    queue.failed(A)
    queue.add(A, ahead=True)
    assert queue.get_due() is None
    clock.now += 1
    assert queue.get_due() == A


def test_a_key_added_while_it_is_worked_on_runs_once_more_afterwards(queue: WorkQueue) -> None:
    queue.add(A)
    queue.get_due()
    queue.add(A)
    queue.add(A)
    assert queue.get_due() is None
    queue.done(A)
    assert [queue.get_due(), queue.get_due()] == [A, None]


def test_a_delayed_key_waits_for_its_time(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A, delay=10)
    assert queue.get_due() is None
    clock.now += 10
    assert queue.get_due() == A


def test_the_earliest_of_several_delays_holds(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A, delay=10)
    queue.add(A, delay=3)
    queue.add(A, delay=30)
    clock.now += 3
    assert queue.get_due() == A
    queue.done(A)
    clock.now += 100
    assert queue.get_due() is None


def test_a_later_requeue_gives_way_to_an_event(queue: WorkQueue) -> None:
    queue.add(A)
    queue.get_due()
    queue.add(A)
    queue.done(A, requeue_after=30)
    assert queue.get_due() == A


def test_failures_in_a_row_wait_longer_up_to_the_cap(queue: WorkQueue, clock: Clock) -> None:
    waits = []
    queue.add(A)
    for _ in range(6):
        assert queue.get_due() == A
        waits.append(queue.failed(A))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 8, 8]


def test_success_resets_the_backoff(queue: WorkQueue, clock: Clock) -> None:
    for _ in range(3):
        queue.add(A)
        clock.now += 8
        queue.get_due()
        queue.failed(A)
    clock.now += 8
    queue.get_due()
    queue.done(A)
    queue.add(A)
    queue.get_due()
    assert queue.failed(A) == 1


def test_events_do_not_shorten_the_backoff(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    queue.get_due()
    queue.add(A)
    queue.failed(A)
    queue.add(A)
    assert queue.get_due() is None
    clock.now += 1
    assert queue.get_due() == A


def test_a_failing_key_holds_up_nobody(queue: WorkQueue) -> None:
    queue.add(A)
    queue.get_due()
    queue.failed(A)
    queue.add(B)
    assert queue.get_due() == B


def test_what_the_server_asks_for_is_the_least_wait(queue: WorkQueue) -> None:
    queue.add(A)
    queue.get_due()
    assert queue.failed(A, min_delay=30) == 30


def test_a_waiting_worker_is_woken(queue: WorkQueue) -> None:
    async def scenario() -> Key:
        getting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add(A)
        return await asyncio.wait_for(getting, 5)

    assert asyncio.run(scenario()) == A


def test_a_wait_takes_no_number_from_the_generator_of_the_process(clock: Clock) -> None:
    queue = WorkQueue(clock=clock)
    queue.add(A)
    assert queue.get_due() == A
    before = random.getstate()
    queue.failed(A)
    assert random.getstate() == before


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_jittered_wait_stays_in_its_range(failures: int, spread: float) -> None:
    backoff = Backoff(first=0.5, cap=60, jitter=0.2)
    assert 0.4 <= backoff.delay(failures, spread=spread) <= 72.001


@settings(deadline=None)
@given(st.lists(st.sampled_from(["add a", "add b", "get", "done", "failed", "tick"]), max_size=60))
def test_never_two_workers_for_one_key_and_no_added_key_is_lost(steps: list[str]) -> None:
    clock = Clock()
    queue = WorkQueue(clock=clock, backoff=Backoff(first=1, cap=4, jitter=0))
    active: list[Key] = []
    owed: set[Key] = set()
    for step in steps:
        if step.startswith("add"):
            key = ("team", step[-1])
            queue.add(key)
            owed.add(key)
        elif step == "get":
            key_or_none = queue.get_due()
            if key_or_none is not None:
                assert key_or_none not in active
                active.append(key_or_none)
                owed.discard(key_or_none)
        elif step == "done" and active:
            queue.done(active.pop())
        elif step == "failed" and active:
            key = active.pop()
            queue.failed(key)
            owed.add(key)
        else:
            clock.now += 2
    for key in active:
        queue.done(key)
    clock.now += 100
    left = set()
    while (key_or_none := queue.get_due()) is not None:
        left.add(key_or_none)
        queue.done(key_or_none)
    assert left >= owed
