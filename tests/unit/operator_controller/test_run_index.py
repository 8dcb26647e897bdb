"""The queue's book: who holds a slot, who waits, who is woken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_operator.api.status import Estimate, Phase, Resolved, RunStatus, write_status
from atoll_operator.controller.queue import WOKEN, RunIndex
from atoll_operator.lifecycle.model import QueueView

NOW = datetime(2027, 1, 9, 12, 0, tzinfo=UTC)
SINCE = "2027-01-09T11:50:00Z"
WORKING = RunStatus(phase=Phase.TRAINING, active_since=SINCE)
QUEUED = RunStatus(phase=Phase.QUEUED, reason=Reason.QUEUED)


def run(name: str, status: RunStatus | None = None, *, minute: int = 0, profile: str = "gpu") -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": f"2027-01-09T11:{minute:02}:00Z",
        },
        "spec": {"profileRef": {"name": profile}, "publish": {"model": "note"}, "training": {"steps": 100}},
        "status": write_status(status) if status else {},
    }


@pytest.fixture
def index() -> RunIndex:
    return RunIndex()


def test_the_first_of_two_goes_first(index: RunIndex) -> None:
    early, late = run("early", minute=1), run("late", minute=2)
    index.observe(late)
    index.observe(early)
    assert index.place(early, slots=1, now=NOW).ahead == 0
    assert index.place(late, slots=1, now=NOW).ahead == 1


def test_a_decision_to_start_takes_the_slot_before_anybody_reads_it_back(index: RunIndex) -> None:
    first, second = run("first", minute=1), run("second", minute=0)
    index.observe(first)
    index.settle(first, WORKING)
    index.observe(second)
    assert index.place(second, slots=1, now=NOW).ahead == 1


def test_an_event_from_before_the_start_does_not_free_the_slot(index: RunIndex) -> None:
    first, second = run("first", minute=0), run("second", minute=1)
    index.settle(first, WORKING)
    index.observe(run("first", QUEUED, minute=0))
    index.observe(second)
    assert index.place(second, slots=1, now=NOW).ahead == 1


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.SUSPENDED])
def test_a_run_that_ends_or_rests_frees_its_slot_and_wakes_the_next(index: RunIndex, phase: Phase) -> None:
    index.settle(run("first"), WORKING)
    index.observe(run("third", QUEUED, minute=3))
    index.observe(run("second", QUEUED, minute=2))
    index.observe(run("elsewhere", QUEUED, profile="cpu"))
    assert index.settle(run("first"), RunStatus(phase=phase)) == [("team", "second"), ("team", "third")]
    assert index.place(run("second", QUEUED, minute=2), slots=1, now=NOW).ahead == 0


def test_a_run_that_is_deleted_wakes_the_next(index: RunIndex) -> None:
    index.settle(run("first"), WORKING)
    index.observe(run("second", QUEUED, minute=2))
    assert index.forget(("team", "first")) == [("team", "second")]
    assert index.forget(("team", "first")) == []


def test_a_run_created_anew_under_the_same_name_holds_no_slot(index: RunIndex) -> None:
    index.settle(run("again"), WORKING)
    anew = run("again", minute=5)
    anew["metadata"]["uid"] = "another"
    index.observe(anew)
    assert index.place(run("other", minute=6), slots=2, now=NOW) == QueueView()


def test_a_run_without_its_store_holds_up_nobody(index: RunIndex) -> None:
    index.observe(run("incomplete", RunStatus(reason=Reason.OBJECT_STORE_NOT_FOUND), minute=1))
    late = run("late", minute=2)
    index.observe(late)
    assert index.place(late, slots=1, now=NOW).ahead == 0


def test_a_run_whose_store_has_come_does_not_pass_by_the_one_at_work(index: RunIndex) -> None:
    index.settle(run("first"), WORKING)
    late = run("late", RunStatus(reason=Reason.OBJECT_STORE_NOT_FOUND), minute=2)
    index.observe(late)
    assert index.place(late, slots=1, now=NOW) == QueueView(1, None, True)


def test_profiles_have_slots_of_their_own(index: RunIndex) -> None:
    index.settle(run("first"), WORKING)
    other = run("other", minute=1, profile="cpu")
    assert index.place(other, slots=1, now=NOW) == QueueView()


def test_not_everybody_is_woken_at_once(index: RunIndex) -> None:
    index.settle(run("first"), WORKING)
    for number in range(WOKEN + 5):
        index.observe(run(f"waiting-{number}", QUEUED, minute=number + 1))
    woken = index.settle(run("first"), RunStatus(phase=Phase.SUCCEEDED))
    assert woken == [("team", f"waiting-{number}") for number in range(WOKEN)]


def test_the_wait_is_estimated_from_what_those_ahead_still_need(index: RunIndex) -> None:
    working = RunStatus(phase=Phase.TRAINING, active_since=SINCE, estimate=Estimate(1800, "as before"))
    index.settle(run("first"), working)
    # 1800 s less the 600 s since its start.
    assert index.place(run("second", minute=1), slots=1, now=NOW) == QueueView(1, 1200, True)


def test_a_status_written_by_hand_does_not_stop_the_index(index: RunIndex) -> None:
    broken = run("broken")
    broken["status"] = {"phase": 7}
    index.observe(broken)
    assert index.phases() == {"Pending": 1}


def test_an_unfinished_run_needs_its_profiles_snapshot(index: RunIndex) -> None:
    resolved = Resolved("gpu", "atoll-profile-1", "sha256:0", "gpu")
    later = Resolved("gpu", "atoll-profile-2", "sha256:1", "gpu")
    index.observe(run("working", RunStatus(phase=Phase.TRAINING, resolved=resolved)))
    index.settle(run("begun"), RunStatus(phase=Phase.CONVERTING, resolved=later))
    index.observe(run("done", RunStatus(phase=Phase.SUCCEEDED, resolved=Resolved("gpu", "old", "sha256:2", "gpu"))))
    assert index.revisions() == {"atoll-profile-1", "atoll-profile-2"}
