"""One reconcile after the other on an API server in memory: what is written, what is read for it, and what follows
from faults, restarts and late events."""

from __future__ import annotations

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.config import Settings
from atoll_operator.kube.errors import Conflict, Forbidden, Unavailable
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import EVENTS, JOBS, RELEASES, RUNS, STORES
from atoll_operator.lifecycle.model import PollIntervals
from support.fake_cluster import FakeServer
from support.fake_operator import (
    KEY,
    FakeOperator,
    add_run,
    job_of,
    prepared,
    run_pod,
    stages_of,
    status_of,
    succeed,
)
from support.reconcile_walk import walk

FRESH = [
    "get trainingprofiles",
    "get objectstores",
    "create controllerrevisions",
    "update trainingruns/status",
    "create jobs",
    "create events",
]


def started(server: FakeServer) -> FakeOperator:
    operator = FakeOperator(server)
    operator.start()
    server.take_calls()
    return operator


def at_work() -> tuple[FakeServer, FakeOperator]:
    """A run whose convert Job was just created."""
    server = prepared()
    operator = started(server)
    add_run(server)
    operator.settle()
    server.take_calls()
    return server, operator


def finish(server: FakeServer, operator: FakeOperator) -> None:
    """Every stage that is left succeeds."""
    for _ in range(10):
        operator.settle()
        if status_of(server).is_terminal:
            return
        succeed(server, stages_of(server.all(JOBS)[-1])[-1].stage)
    raise AssertionError(status_of(server))


# The Jobs of a run, as `created_jobs` tells them.
ALL = ["convert", "train", "compile"]


def created_jobs(server: FakeServer) -> list[str]:
    """The first stage of each Job."""
    return [job["metadata"]["labels"]["atoll.dev/stage"] for job in server.all(JOBS)]


# The undisturbed run, and what it costs.


def test_a_fresh_run_costs_six_calls() -> None:
    server = prepared()
    operator = started(server)
    add_run(server)
    operator.settle()
    assert server.take_calls() == FRESH
    assert (status_of(server).phase, created_jobs(server)) == (Phase.CONVERTING, ["convert"])
    assert operator.errors == []


def test_a_run_that_is_read_live_costs_two_more() -> None:
    server = prepared()
    operator = started(server)
    add_run(server)
    operator.reconcile(KEY)
    assert server.take_calls() == ["get trainingruns", "list jobs", *FRESH]


LAST_STAGES = [Stage.CONVERT, Stage.EXPORT, Stage.PUBLISH]


@pytest.mark.parametrize("stage", LAST_STAGES)
def test_each_further_job_costs_one_write_of_the_status_and_what_it_needs_for_the_first_time(stage: Stage) -> None:
    calls = {
        Stage.CONVERT: ["get controllerrevisions", "update trainingruns/status", "create jobs", "create events"],
        Stage.EXPORT: [
            "list modelreleases",
            "create modelreleases",
            "update trainingruns/status",
            "create jobs",
            *["create events"] * 2,
        ],
        Stage.PUBLISH: ["patch modelreleases/status", "update trainingruns/status", *["create events"] * 4],
    }
    server, operator = at_work()
    for before in LAST_STAGES[: LAST_STAGES.index(stage)]:
        succeed(server, before)
        operator.settle()
    server.take_calls()
    succeed(server, stage)
    operator.settle()
    assert server.take_calls() == calls[stage]


def test_the_next_stage_of_a_pod_is_found_when_the_pod_is_read_and_costs_no_other_call() -> None:
    server, operator = at_work()
    succeed(server, Stage.CONVERT)
    operator.settle()
    run_pod(server, Stage.TRAIN)
    operator.advance(4)
    assert status_of(server).phase is Phase.TRAINING
    run_pod(server, Stage.EXPORT)
    operator.advance(3)
    server.take_calls()
    operator.advance(3)
    assert server.take_calls() == ["list pods", "get pods/log", "update trainingruns/status", *["create events"] * 2]
    status = status_of(server)
    assert (status.phase, status.stage(Stage.EXPORT).attempts) == (Phase.EXPORTING, 1)


def test_a_run_goes_from_its_creation_to_a_published_release() -> None:
    server, operator = at_work()
    finish(server, operator)
    status = status_of(server)
    assert (status.phase, status.message) == (Phase.SUCCEEDED, "published as note-v1")
    assert created_jobs(server) == ALL
    assert [release["metadata"]["name"] for release in server.all(RELEASES)] == ["note-v1"]
    assert operator.errors == []


def test_the_operators_own_writes_cost_no_call_when_they_come_back() -> None:
    server, operator = at_work()
    for job in server.all(JOBS):
        server.edit(JOBS, "team", job["metadata"]["name"], {"status": {"active": 1}})
    operator.settle()
    assert server.take_calls() == []


def test_pods_are_read_after_three_seconds_and_then_every_five() -> None:
    server, operator = at_work()
    operator.advance(2.5)
    assert server.take_calls() == []
    operator.advance(21)
    assert server.take_calls().count("list pods") == 5


def test_places_in_the_queue_are_written_every_thirty_seconds_and_a_start_at_once() -> None:
    server = prepared(maxConcurrentRuns=1)
    operator = started(server)
    names = [f"run-{number}" for number in range(8)]
    for name in names:
        add_run(server, name, uid=f"{name}-uid")
        server.clock.advance(1)
    operator.settle()
    last = ("team", names[-1])
    written = [server.get(RUNS, *last)]
    for name in names[:-1]:
        server.edit(RUNS, "team", name, {"spec": {"cancel": True}})
        operator.advance(4)
        written.append(server.get(RUNS, *last))
    versions = {run["metadata"]["resourceVersion"] for run in written if run}
    # The place at first, one half a minute later at most, and the start.
    assert len(versions) <= 3
    assert status_of(server, names[-1]).phase is Phase.CONVERTING


def test_a_queued_run_starts_when_the_one_before_it_ends() -> None:
    server = prepared(maxConcurrentRuns=1)
    operator = started(server)
    add_run(server)
    operator.settle()
    server.clock.advance(1)
    add_run(server, "second", uid="second-uid")
    operator.settle()
    queued = status_of(server, "second")
    assert (queued.phase, queued.queue and queued.queue.ahead) == (Phase.QUEUED, 1)
    finish(server, operator)
    assert status_of(server, "second").phase is Phase.CONVERTING


# Faults.


@pytest.mark.parametrize("call", FRESH)
@pytest.mark.parametrize(
    ("status", "carried_out"),
    [(500, False), (429, False), (0, False), (0, True)],
    ids=["500", "429", "no answer", "answer lost"],
)
def test_after_a_fault_of_any_call_the_run_has_one_job(call: str, status: int, carried_out: bool) -> None:
    server = prepared()
    operator = started(server)
    server.fail(call, status, carried_out=carried_out)
    add_run(server)
    operator.settle()
    assert [type(error) for _, error in operator.errors] == [] if call == "create events" else [Unavailable]
    operator.advance(3)
    assert (status_of(server).phase, created_jobs(server)) == (Phase.CONVERTING, ["convert"])
    finish(server, operator)
    assert created_jobs(server) == ALL
    assert status_of(server).phase is Phase.SUCCEEDED


def test_an_api_server_that_does_not_answer_is_asked_more_and_more_seldom() -> None:
    server = prepared()
    operator = started(server)
    server.fail("", times=10_000)
    add_run(server)
    operator.settle()
    operator.advance(200)
    assert 6 <= len(operator.errors) <= 12
    assert {type(error) for _, error in operator.errors} == {Unavailable}
    server.faults.clear()
    operator.advance(75)
    assert created_jobs(server) == ["convert"]


def test_a_stale_decision_is_refused_and_made_again_on_what_is() -> None:
    server, operator = at_work()
    succeed(server, Stage.CONVERT)
    # A user's change that the watch has not brought yet.
    server.edit(RUNS, "team", "note", {"spec": {"suspend": True}})
    operator.deliver("jobs", "pods")
    operator.work()
    assert [type(error) for _, error in operator.errors] == [Conflict]
    assert created_jobs(server) == ["convert"]
    operator.advance(1)
    assert status_of(server).phase is Phase.SUSPENDED
    assert created_jobs(server) == ["convert"]


def test_a_job_of_an_earlier_process_is_taken_for_the_runs_own() -> None:
    server, _ = at_work()
    job = job_of(server, Stage.CONVERT)
    server.edit(RUNS, "team", "note", {"status": None})
    operator = FakeOperator(server)
    run = server.get(RUNS, "team", "note")
    assert run is not None
    operator.hand_out("ADDED", "trainingruns", run)
    server.take_calls()
    operator.settle()
    assert server.take_calls().count("create jobs") == 1
    assert job_of(server, Stage.CONVERT) == job
    convert = status_of(server).stage(Stage.CONVERT)
    assert convert.job_ref is None or convert.job_ref.uid == job["metadata"]["uid"]
    finish(server, operator)
    assert status_of(server).phase is Phase.SUCCEEDED


def test_a_job_of_somebody_else_ends_the_run_and_is_left_alone() -> None:
    model, _ = at_work()
    name = job_of(model, Stage.CONVERT)["metadata"]["name"]
    server = prepared()
    operator = started(server)
    server.add(JOBS, {"metadata": {"name": name}, "spec": {}}, "team")
    add_run(server)
    operator.settle()
    status = status_of(server)
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.JOB_NAME_CONFLICT)
    assert [job["metadata"]["name"] for job in server.all(JOBS)] == [name]


def test_a_job_that_admission_refuses_ends_the_run_with_its_message() -> None:
    server = prepared()
    operator = started(server)
    server.fail("create jobs", 422, message="spec.template is not allowed here", times=100)
    add_run(server)
    operator.settle()
    assert status_of(server).is_terminal
    assert "spec.template is not allowed here" in status_of(server).message


def test_what_is_forbidden_is_said_in_the_status_and_by_an_event_and_taken_back_later() -> None:
    server, operator = at_work()
    server.fail("create jobs", 403, message="no right", times=100)
    succeed(server, Stage.CONVERT)
    operator.settle()
    assert {type(error) for _, error in operator.errors} == {Forbidden}
    status = status_of(server)
    assert (status.reason, "forbidden: the operator may not create jobs" in status.message) == (
        Reason.INTERNAL_ERROR,
        True,
    )
    events = [event for event in server.all(EVENTS) if event["reason"] == "InternalError"]
    operator.advance(500, step=5)
    assert len(events) == 1
    # The same refusal is reported again after ten minutes.
    operator.advance(200, step=5)
    assert len([event for event in server.all(EVENTS) if event["reason"] == "InternalError"]) == 2
    server.faults.clear()
    operator.advance(70, step=5)
    assert created_jobs(server) == ["convert", "train"]
    operator.advance(10)
    assert "forbidden" not in status_of(server).message


def test_a_process_without_the_lease_writes_nothing() -> None:
    server = prepared()
    operator = started(server)
    operator.leads = False
    add_run(server)
    operator.settle()
    assert [type(error) for _, error in operator.errors] == [NotLeader]
    assert not [call for call in server.take_calls() if not call.startswith(("get", "list"))]
    operator.leads = True
    operator.advance(5)
    assert created_jobs(server) == ["convert"]


def test_a_store_that_comes_later_is_waited_for() -> None:
    server = prepared()
    store = server.get(STORES, "team", "default")
    server.remove(STORES, "team", "default")
    operator = started(server)
    add_run(server)
    operator.settle()
    assert status_of(server).reason is Reason.OBJECT_STORE_NOT_FOUND
    assert store is not None
    server.add(STORES, store, "team")
    operator.advance(120, step=5)
    assert created_jobs(server) == ["convert"]


# Deletions.


def test_a_deleted_run_is_forgotten_and_its_slot_given_away() -> None:
    server = prepared(maxConcurrentRuns=1)
    operator = started(server)
    add_run(server)
    operator.settle()
    server.clock.advance(1)
    add_run(server, "second", uid="second-uid")
    operator.settle()
    server.remove(RUNS, "team", "note")
    operator.settle()
    assert status_of(server, "second").phase is Phase.CONVERTING
    server.take_calls()
    operator.queue.add(KEY)
    operator.settle()
    assert server.take_calls() == ["get trainingruns"]


def test_a_run_in_deletion_is_left_alone() -> None:
    server, operator = at_work()
    succeed(server, Stage.CONVERT)
    server.edit(RUNS, "team", "note", {"metadata": {"deletionTimestamp": "2027-01-09T18:00:00Z"}})
    server.take_calls()
    operator.settle()
    assert server.take_calls() == []


def test_a_job_that_somebody_deletes_is_made_again_as_the_next_attempt() -> None:
    server, operator = at_work()
    operator.advance(4)
    server.remove(JOBS, "team", job_of(server, Stage.CONVERT)["metadata"]["name"])
    operator.settle()
    assert status_of(server).stage(Stage.CONVERT).reason is Reason.JOB_DELETED_EXTERNALLY
    operator.advance(6)
    assert job_of(server, Stage.CONVERT)["metadata"]["labels"]["atoll.dev/attempt"] == "2"


# Restarts and late events.


@pytest.mark.parametrize("done", range(6))
def test_a_restart_creates_no_second_job(done: int) -> None:
    server, operator = at_work()
    for stage in list(Stage)[:done]:
        succeed(server, stage)
        operator.settle()
    before = [job["metadata"]["uid"] for job in server.all(JOBS)]
    server.listeners.clear()
    operator = FakeOperator(server)
    operator.start()
    operator.settle()
    assert [job["metadata"]["uid"] for job in server.all(JOBS)] == before
    finish(server, operator)
    assert created_jobs(server) == ALL


@pytest.mark.parametrize("call", FRESH)
def test_a_process_that_dies_after_any_call_is_followed_by_one_that_goes_on(call: str) -> None:
    server = prepared()
    operator = started(server)
    server.fail(call, carried_out=True)
    add_run(server)
    operator.deliver()
    operator.work()
    server.listeners.clear()
    successor = FakeOperator(server)
    successor.start()
    finish(server, successor)
    assert created_jobs(server) == ALL
    assert [release["metadata"]["name"] for release in server.all(RELEASES)] == ["note-v1"]


def test_an_event_that_comes_late_changes_nothing() -> None:
    server = prepared()
    operator = started(server)
    old = add_run(server)
    operator.settle()
    succeed(server, Stage.CONVERT)
    operator.settle()
    server.take_calls()
    operator.hand_out("MODIFIED", "trainingruns", old)
    operator.settle()
    assert server.take_calls() == []
    assert created_jobs(server) == ["convert", "train"]


def test_a_deleted_run_is_not_brought_back_by_a_late_event() -> None:
    server = prepared()
    operator = started(server)
    old = add_run(server)
    operator.settle()
    server.remove(RUNS, "team", "note")
    operator.settle()
    operator.hand_out("MODIFIED", "trainingruns", old)
    server.take_calls()
    operator.settle()
    assert not [call for call in server.take_calls() if call.startswith("create")]


def test_a_missed_end_of_a_job_is_found_by_the_next_list() -> None:
    server, operator = at_work()
    succeed(server, Stage.CONVERT)
    operator.events.clear()
    operator.settle()
    assert created_jobs(server) == ["convert"]
    operator.resync()
    operator.settle()
    assert created_jobs(server) == ["convert", "train"]


def test_a_finished_run_costs_a_resync_nothing_but_the_two_lists() -> None:
    server, operator = at_work()
    finish(server, operator)
    server.take_calls()
    operator.resync()
    operator.settle()
    assert server.take_calls() == ["list trainingruns", "list jobs"]


def test_one_reconcile_passes_through_few_files() -> None:
    assert len(walk().files) <= 31


def test_a_longer_interval_between_readings_saves_the_reconciles_between_them() -> None:
    settings = Settings(own_namespace="atoll-system", poll=PollIntervals(running=120.0))
    server = prepared()
    operator = FakeOperator(server, settings)
    operator.start()
    add_run(server)
    operator.settle()
    run_pod(server, Stage.CONVERT)
    # A container that prints nothing is read more often while it is new.
    operator.advance(25)
    done = operator.reconciles
    operator.advance(100)
    assert operator.reconciles == done
