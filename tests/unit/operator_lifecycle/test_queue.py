"""The queue of a profile, the policy of retries, and how durations are written."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.errors import ExitCode, Reason
from atoll_contract.text import duration
from atoll_operator.lifecycle.admission import QueueEntry, queue_position
from atoll_operator.lifecycle.model import RetryTiming
from atoll_operator.lifecycle.results import is_retryable
from atoll_operator.lifecycle.transition import retry_delay
from support.run_simulation import START


def entry(name: str, minutes: int, *, active: bool = False, remaining: int | None = None) -> QueueEntry:
    return QueueEntry("team", name, START + timedelta(minutes=minutes), active, remaining)


def test_first_come_first_served() -> None:
    runs = [entry("c", 2), entry("a", 0, active=True, remaining=1000), entry("b", 1, remaining=900)]
    assert queue_position("team", "a", runs, slots=1).ahead == 0
    assert queue_position("team", "b", runs, slots=1).ahead == 1
    third = queue_position("team", "c", runs, slots=1)
    assert third.ahead == 2
    assert third.eta_seconds == 2100
    assert third.others_active


def test_one_more_run_ahead_shows_in_the_estimate() -> None:
    """Short runs too: of sixteen that take 20 s each, the sixth waits longer than the third."""
    runs = [entry("a", 0, active=True, remaining=20), *(entry(f"b{n:02}", 1 + n, remaining=20) for n in range(16))]
    waits = [queue_position("team", f"b{n:02}", runs, slots=1).eta_seconds for n in range(16)]
    assert waits[0] == 30
    assert waits[2] == 60
    assert waits[5] == 120
    assert waits[15] == 360
    assert waits == sorted(waits, key=int)  # type: ignore[arg-type]


def test_a_run_that_is_overdue_is_not_over_yet() -> None:
    runs = [entry("a", 0, active=True, remaining=0), entry("b", 1)]
    assert queue_position("team", "b", runs, slots=1).eta_seconds == 30


def test_long_waits_are_written_seldom() -> None:
    runs = [entry("a", 0, active=True, remaining=5000), entry("b", 1)]
    assert queue_position("team", "b", runs, slots=1).eta_seconds == 5400


def test_a_free_slot_goes_to_the_oldest_waiting_run() -> None:
    runs = [entry("a", 0), entry("b", 1), entry("c", 2)]
    assert [queue_position("team", name, runs, slots=2).ahead for name in "abc"] == [0, 0, 1]


def test_a_run_that_was_let_in_keeps_its_slot() -> None:
    runs = [entry("old", 0), entry("young", 5, active=True)]
    assert queue_position("team", "young", runs, slots=1).ahead == 0
    assert queue_position("team", "old", runs, slots=1).ahead == 1


def test_a_run_without_an_estimate_gives_the_later_ones_none() -> None:
    runs = [entry("a", 0, active=True), entry("b", 1)]
    assert queue_position("team", "b", runs, slots=1).eta_seconds is None


@given(
    created=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    active=st.lists(st.booleans(), min_size=8, max_size=8),
    slots=st.integers(1, 4),
)
def test_all_slots_and_no_more_are_used(created: list[int], active: list[bool], slots: int) -> None:
    """Each run computes its own position; together they use every slot and no more than there are."""
    held = 0
    runs = []
    for number, (minute, wanted) in enumerate(zip(created, active, strict=False)):
        holds = wanted and held < slots
        held += holds
        runs.append(entry(f"run-{number}", minute, active=holds))
    waiting = [item for item in runs if not item.active]
    let_in = [item for item in waiting if queue_position("team", item.name, runs, slots=slots).ahead == 0]
    assert held + len(let_in) <= slots
    assert held + len(let_in) == min(slots, len(runs))
    assert sorted(let_in, key=lambda item: item.order) == sorted(waiting, key=lambda item: item.order)[: len(let_in)]


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (1, 5), (2, 10), (3, 20), (7, 300), (1000, 300)])
def test_the_delay_doubles_up_to_five_minutes(failures: int, seconds: int) -> None:
    assert retry_delay(RetryTiming(), failures) == seconds


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.OK])
def test_an_exit_code_decides_whether_a_failure_is_retryable(code: ExitCode) -> None:
    reason = Reason.__members__.get(code.name, Reason.INTERNAL_ERROR)
    assert is_retryable(reason, int(code)) is (30 <= code < 40)


@pytest.mark.parametrize(
    ("reason", "code", "again"),
    [
        (Reason.EVICTED, None, True),
        (Reason.RESULT_MISSING, 0, True),
        (Reason.OUT_OF_MEMORY, 137, False),
        (Reason.START_TIMEOUT, None, False),
        (Reason.IMAGE_PULL_FAILED, None, False),
        (Reason.INTERNAL_ERROR, 137, True),
        (Reason.INTERNAL_ERROR, 1, True),
    ],
)
def test_failures_that_the_cluster_caused_are_retryable(reason: Reason, code: int | None, again: bool) -> None:
    assert is_retryable(reason, code) is again


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (180, "3 min"), (7800, "2 h 10 min"), (89.6, "90 s")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def wide(name: str, minutes: int, slots: int, *, active: bool = False) -> QueueEntry:
    return QueueEntry("team", name, START + timedelta(minutes=minutes), active, slots=slots)


def test_a_run_with_several_workers_or_gpus_takes_a_slot_for_each() -> None:
    runs = [wide("a", 0, 2, active=True), wide("b", 1, 2), wide("c", 2, 1)]
    assert [queue_position("team", name, runs, slots=4).ahead for name in "bc"] == [0, 1]
    assert queue_position("team", "b", runs, slots=3).ahead == 1


def test_a_run_that_wants_more_slots_than_there_are_gets_all_of_them_in_its_turn() -> None:
    runs = [wide("a", 0, 1, active=True), wide("b", 1, 8), wide("c", 2, 1)]
    assert queue_position("team", "b", runs, slots=2).ahead == 1
    assert queue_position("team", "b", runs[1:], slots=2).ahead == 0
    # A small run does not overtake it.
    assert queue_position("team", "c", runs, slots=2).ahead == 2
