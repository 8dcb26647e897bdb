"""The queue's book: who holds a slot, who waits, who is woken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_operator.api.status import Estimate, Phase, Resolved, RunStatus
from atoll_operator.api.status_codec import write_status
from atoll_operator.controller.queue import MAX_WOKEN, QueueManager
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
def queue() -> QueueManager:
    return QueueManager()


def test_the_first_of_two_goes_first(queue: QueueManager) -> None:
    early, late = run("early", minute=1), run("late", minute=2)
    queue.observe(late)
    queue.observe(early)
    assert queue.position(early, slots=1, now=NOW).ahead == 0
    assert queue.position(late, slots=1, now=NOW).ahead == 1


def test_a_decision_to_start_takes_the_slot_before_anybody_reads_it_back(queue: QueueManager) -> None:
    first, second = run("first", minute=1), run("second", minute=0)
    queue.observe(first)
    queue.record(first, WORKING)
    queue.observe(second)
    assert queue.position(second, slots=1, now=NOW).ahead == 1


def test_an_event_from_before_the_start_does_not_free_the_slot(queue: QueueManager) -> None:
    first, second = run("first", minute=0), run("second", minute=1)
    queue.record(first, WORKING)
    queue.observe(run("first", QUEUED, minute=0))
    queue.observe(second)
    assert queue.position(second, slots=1, now=NOW).ahead == 1


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.SUSPENDED])
def test_a_run_that_ends_or_rests_frees_its_slot_and_wakes_the_next(queue: QueueManager, phase: Phase) -> None:
    queue.record(run("first"), WORKING)
    queue.observe(run("third", QUEUED, minute=3))
    queue.observe(run("second", QUEUED, minute=2))
    queue.observe(run("elsewhere", QUEUED, profile="cpu"))
    assert queue.record(run("first"), RunStatus(phase=phase)) == [("team", "second"), ("team", "third")]
    assert queue.position(run("second", QUEUED, minute=2), slots=1, now=NOW).ahead == 0


def test_a_run_that_is_deleted_wakes_the_next(queue: QueueManager) -> None:
    queue.record(run("first"), WORKING)
    queue.observe(run("second", QUEUED, minute=2))
    assert queue.forget(("team", "first")) == [("team", "second")]
    assert queue.forget(("team", "first")) == []


def test_the_late_end_of_a_run_of_the_same_name_frees_no_slot(queue: QueueManager) -> None:
    """A run was deleted and created again, and is at work before the watch tells of the deletion."""
    queue.record(run("first"), WORKING)
    queue.observe(run("second", QUEUED, minute=2))
    assert queue.forget(("team", "first"), uid="of the run before") == []
    assert queue.is_at_work(("team", "first"))
    assert queue.forget(("team", "first"), uid=run("first")["metadata"]["uid"]) == [("team", "second")]


def test_a_run_created_anew_under_the_same_name_holds_no_slot(queue: QueueManager) -> None:
    queue.record(run("again"), WORKING)
    anew = run("again", minute=5)
    anew["metadata"]["uid"] = "another"
    queue.observe(anew)
    assert queue.position(run("other", minute=6), slots=2, now=NOW) == QueueView()


def test_a_run_without_its_store_holds_up_nobody(queue: QueueManager) -> None:
    queue.observe(run("incomplete", RunStatus(reason=Reason.OBJECT_STORE_NOT_FOUND), minute=1))
    late = run("late", minute=2)
    queue.observe(late)
    assert queue.position(late, slots=1, now=NOW).ahead == 0


def test_a_run_whose_store_has_come_does_not_pass_by_the_one_at_work(queue: QueueManager) -> None:
    queue.record(run("first"), WORKING)
    late = run("late", RunStatus(reason=Reason.OBJECT_STORE_NOT_FOUND), minute=2)
    queue.observe(late)
    assert queue.position(late, slots=1, now=NOW) == QueueView(1, None, True)


def test_profiles_have_slots_of_their_own(queue: QueueManager) -> None:
    queue.record(run("first"), WORKING)
    other = run("other", minute=1, profile="cpu")
    assert queue.position(other, slots=1, now=NOW) == QueueView()


def test_not_everybody_is_woken_at_once(queue: QueueManager) -> None:
    queue.record(run("first"), WORKING)
    for number in range(MAX_WOKEN + 5):
        queue.observe(run(f"waiting-{number}", QUEUED, minute=number + 1))
    woken = queue.record(run("first"), RunStatus(phase=Phase.SUCCEEDED))
    assert woken == [("team", f"waiting-{number}") for number in range(MAX_WOKEN)]


def test_the_wait_is_estimated_from_what_those_ahead_still_need(queue: QueueManager) -> None:
    working = RunStatus(phase=Phase.TRAINING, active_since=SINCE, estimate=Estimate(1800, "as before"))
    queue.record(run("first"), working)
    # 1800 s less the 600 s since its start.
    assert queue.position(run("second", minute=1), slots=1, now=NOW) == QueueView(1, 1200, True)


def test_a_status_written_by_hand_does_not_stop_the_queue(queue: QueueManager) -> None:
    broken = run("broken")
    broken["status"] = {"phase": 7}
    queue.observe(broken)
    assert queue.count(Phase.PENDING) == 1


def test_runs_are_counted_by_phase_as_they_come_and_go(queue: QueueManager) -> None:
    queue.observe(run("one", QUEUED))
    queue.observe(run("two", QUEUED))
    queue.record(run("one"), WORKING)
    assert [queue.count(phase) for phase in (Phase.QUEUED, Phase.TRAINING)] == [1, 1]
    queue.forget(("team", "two"))
    queue.record(run("one"), RunStatus(phase=Phase.SUCCEEDED))
    assert [queue.count(phase) for phase in (Phase.QUEUED, Phase.TRAINING, Phase.SUCCEEDED)] == [0, 0, 1]


def test_an_unfinished_run_needs_its_profiles_snapshot(queue: QueueManager) -> None:
    resolved = Resolved("gpu", "atoll-profile-1", "sha256:0", "gpu")
    later = Resolved("gpu", "atoll-profile-2", "sha256:1", "gpu")
    queue.observe(run("working", RunStatus(phase=Phase.TRAINING, resolved=resolved)))
    queue.record(run("begun"), RunStatus(phase=Phase.CONVERTING, resolved=later))
    queue.observe(run("done", RunStatus(phase=Phase.SUCCEEDED, resolved=Resolved("gpu", "old", "sha256:2", "gpu"))))
    assert queue.snapshots_in_use() == {"atoll-profile-1", "atoll-profile-2"}
