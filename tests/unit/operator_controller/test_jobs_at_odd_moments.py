"""Jobs of strangers, Jobs that end while they are listed, Jobs that outlive their run, and slots that are not free yet:
played step by step on the API server in memory. Ids as in docs/faults.md."""

from __future__ import annotations

import copy

import pytest

from atoll_contract.document import rfc3339
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.kube.errors import Conflict
from atoll_operator.kube.objects import JOBS, PODS, RUNS, WORKLOAD_JOB_LABEL, WORKLOADS
from atoll_operator.kube.transport import Body, Request
from atoll_operator.lifecycle.model import JobState
from support.fake_cluster import FakeServer, text_of
from support.fake_operator import KEY, FakeOperator, add_run, job_of, prepared, run_pod, status_of, succeed
from support.run_simulation import UID, success


def at_work(**profile: int) -> tuple[FakeServer, FakeOperator]:
    """A run whose convert Job was just created and recorded."""
    server = prepared(**profile)
    operator = FakeOperator(server)
    operator.start()
    add_run(server)
    operator.settle()
    operator.advance(4)
    server.take_calls()
    return server, operator


def copy_of(job: Body, **metadata: object) -> Body:
    """The same Job as it was sent to the API server, except for what is named."""
    body = copy.deepcopy(job)
    kept = {key: body["metadata"][key] for key in ("name", "labels", "ownerReferences")}
    return {"metadata": kept | metadata, "spec": body["spec"]}


def end(server: FakeServer, namespace: str, name: str, kind: str, **condition: str) -> None:
    now = rfc3339(server.clock.now())
    ended = {"type": kind, "status": "True", "lastTransitionTime": now, **condition}
    server.edit(JOBS, namespace, name, {"status": {"conditions": [ended]}})


# Of another namespace, or another owner.


def test_O20_a_job_of_another_namespace_says_nothing_about_the_run_whatever_it_bears() -> None:
    server, operator = at_work()
    victim = job_of(server, Stage.CONVERT)
    server.add(JOBS, copy_of(victim), "evil")
    operator.settle()
    end(server, "evil", victim["metadata"]["name"], "Failed", reason="DeadlineExceeded", message="too long")
    operator.settle()
    # Not even a call follows from it.
    assert server.take_calls() == []
    server.remove(JOBS, "evil", victim["metadata"]["name"])
    for _ in range(2):
        operator.settle()
        operator.resync()
    operator.advance(10)
    status = status_of(server)
    assert (status.phase, status.stage(Stage.CONVERT).reason) == (Phase.CONVERTING, Reason.RUNNING)
    assert [job["metadata"]["uid"] for job in server.all(JOBS)] == [victim["metadata"]["uid"]]


def test_O20_a_pod_of_another_namespace_brings_no_result() -> None:
    server, operator = at_work()
    job = job_of(server, Stage.CONVERT)
    now, forged = rfc3339(server.clock.now()), success(Stage.CONVERT, 1).replace('"pictures":', '"pictures":1')
    ended = {"exitCode": 0, "message": forged, "startedAt": now, "finishedAt": now}
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
    pod = {
        "metadata": {"name": "forged", "labels": job["metadata"]["labels"], "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "stage"}]},
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "stage", "state": {"terminated": ended}}],
        },
    }
    server.add(PODS, pod, "evil")
    operator.settle()
    succeed(server, Stage.CONVERT)
    # The event of the real pod comes late.
    operator.deliver(JOBS.plural)
    operator.work()
    dataset = status_of(server).dataset
    assert dataset is not None
    assert dataset.pictures == 110


@pytest.mark.parametrize("owner", [[], [{"kind": "TrainingRun", "uid": "another", "controller": True}]])
def test_O20_a_job_of_the_same_namespace_with_stolen_labels_is_not_the_runs(owner: list[Body]) -> None:
    server, operator = at_work()
    stolen = copy_of(job_of(server, Stage.CONVERT), name="stranger", ownerReferences=owner)
    server.add(JOBS, stolen, "team")
    end(server, "team", "stranger", "Failed")
    operator.settle()
    operator.resync()
    operator.settle()
    status = status_of(server)
    assert (status.phase, status.stage(Stage.CONVERT).attempts) == (Phase.CONVERTING, 1)
    assert server.get(JOBS, "team", "stranger")


def test_O20_a_strangers_job_under_the_next_jobs_name_is_still_told_as_a_conflict() -> None:
    server, operator = at_work()
    taken = job_of(server, Stage.CONVERT)
    name = taken["metadata"]["name"].replace("convert", "train")
    labels = taken["metadata"]["labels"] | {"atoll.dev/stage": "train"}
    server.add(JOBS, copy_of(taken, name=name, labels=labels, ownerReferences=[]), "team")
    succeed(server, Stage.CONVERT)
    operator.settle()
    status = status_of(server)
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.JOB_NAME_CONFLICT)
    assert name in status.message
    assert server.get(JOBS, "team", name)


def test_a_retry_that_is_reported_while_the_failure_is_written_is_not_lost() -> None:
    server, operator = at_work()
    server.edit(RUNS, *KEY, {"spec": {"runPolicy": {"backoffLimit": 0}}})

    def retry_meanwhile(call: Request, moment: str) -> None:
        is_patch = text_of(call).startswith("update trainingruns/status")
        if is_patch and moment == "after" and status_of(server).is_terminal:
            operator.around = lambda *_: None
            server.edit(RUNS, *KEY, {"metadata": {"annotations": {"atoll.dev/retry": "1"}}})
            operator.deliver()

    operator.around = retry_meanwhile
    name = job_of(server, Stage.CONVERT)["metadata"]["name"]
    failed = {"type": "Failed", "status": "True", "lastTransitionTime": rfc3339(server.clock.now())}
    server.edit(JOBS, "team", name, {"status": {"conditions": [failed]}})
    operator.settle()
    operator.advance(10)
    assert status_of(server).phase is Phase.CONVERTING
    assert status_of(server).last_handled_retry == "1"


# Events during a list.


def test_O21_a_job_that_ends_while_it_is_listed_ends_its_stage_at_once() -> None:
    server, operator = at_work()
    run_pod(server, Stage.CONVERT)
    operator.advance(40)
    name = job_of(server, Stage.CONVERT)["metadata"]["name"]

    def end_meanwhile(request: Request, moment: str) -> None:
        if text_of(request).startswith("list jobs ") and moment == "after":
            operator.around = lambda *_: None
            server.remove(PODS, "team", f"{name}-pod")
            succeed(server, Stage.CONVERT)
            operator.deliver()

    operator.around = end_meanwhile
    operator.resync()
    operator.work()
    operator.settle()
    assert status_of(server).phase is Phase.TRAINING


def test_O21_a_job_that_is_deleted_while_it_is_listed_is_gone_at_once() -> None:
    server, operator = at_work()
    name = job_of(server, Stage.CONVERT)["metadata"]["name"]

    def delete_meanwhile(request: Request, moment: str) -> None:
        if text_of(request).startswith("list jobs ") and moment == "after":
            operator.around = lambda *_: None
            server.remove(JOBS, "team", name)
            operator.deliver()

    operator.around = delete_meanwhile
    operator.resync()
    operator.settle()
    assert status_of(server).stage(Stage.CONVERT).reason is Reason.JOB_DELETED_EXTERNALLY


# Jobs that outlive their run.


def cancelled() -> tuple[FakeServer, FakeOperator, Body]:
    """A run that was cancelled, and the Job that a slow API server creates for it only afterwards."""
    server, operator = at_work()
    first = job_of(server, Stage.CONVERT)
    server.edit(RUNS, "team", "note", {"spec": {"cancel": True}})
    operator.settle()
    operator.advance(5)
    assert status_of(server).phase is Phase.CANCELLED
    assert server.all(JOBS) == []
    server.take_calls()
    labels = first["metadata"]["labels"] | {"atoll.dev/attempt": "2"}
    name = first["metadata"]["name"].replace("convert-1", "convert-2")
    return server, operator, copy_of(first, name=name, labels=labels)


def test_O22_a_job_that_appears_after_its_runs_end_is_deleted_in_one_reconcile() -> None:
    server, operator, late = cancelled()
    server.add(JOBS, late, "team")
    operator.deliver()
    before = operator.reconciles
    operator.settle()
    assert server.all(JOBS) == []
    assert operator.reconciles == before + 1
    assert server.take_calls() == ["get trainingruns", "list jobs", "delete jobs"]


def test_O22_a_job_whose_event_was_missed_is_deleted_after_the_next_resync() -> None:
    server, operator, late = cancelled()
    server.add(JOBS, late, "team")
    operator.events.clear()
    operator.resync()
    operator.work()
    assert server.all(JOBS) == []


def test_O22_the_jobs_of_a_run_that_has_ended_wake_it_no_more() -> None:
    server, operator = at_work()
    for stage in Stage:
        succeed(server, stage)
        operator.settle()
    assert status_of(server).phase is Phase.SUCCEEDED
    server.take_calls()
    before = operator.reconciles
    for job in server.all(JOBS):
        server.edit(JOBS, "team", job["metadata"]["name"], {"status": {"succeeded": 1}})
        server.remove(JOBS, "team", job["metadata"]["name"])
    operator.settle()
    assert (server.take_calls(), operator.reconciles) == ([], before)


# Slots.


def test_O24_a_slot_is_given_away_only_after_the_write_that_leaves_it() -> None:
    server, operator = at_work(maxConcurrentRuns=1)
    server.clock.advance(1)
    add_run(server, "second", uid="second-uid")
    operator.settle()
    assert status_of(server, "second").phase is Phase.QUEUED
    server.fail("update trainingruns/status team/note", 409)
    server.edit(RUNS, "team", "note", {"spec": {"suspend": True}})
    operator.deliver()
    operator.work()
    operator.queue.add(("team", "second"))
    operator.work()
    assert [type(error) for _, error in operator.errors] == [Conflict]
    assert [status_of(server, name).phase for name in ("note", "second")] == [Phase.CONVERTING, Phase.QUEUED]
    operator.advance(2)
    assert [status_of(server, name).phase for name in ("note", "second")] == [Phase.SUSPENDED, Phase.CONVERTING]


# Jobs that Kueue holds.


def test_O25_a_suspended_job_costs_nothing_until_it_is_resumed() -> None:
    server, operator = at_work()
    job = job_of(server, Stage.CONVERT)["metadata"]
    server.edit(JOBS, "team", job["name"], {"spec": {"suspend": True}})
    operator.settle()
    stage = status_of(server).stage(Stage.CONVERT)
    assert (stage.reason, stage.message) == (Reason.QUEUED, f"Job {job['name']} is held by its queue")
    # Kueue makes the Workload some moments after the Job.
    full = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "1 more needed"}
    workload = {
        "metadata": {"name": "job-note", "labels": {WORKLOAD_JOB_LABEL: job["uid"]}},
        "spec": {"queueName": "gpu"},
        "status": {"conditions": [full]},
    }
    server.add(WORKLOADS[0], workload, "team")
    operator.advance(6)
    told = f"Job {job['name']} waits in queue gpu: 1 more needed"
    assert status_of(server).stage(Stage.CONVERT).message == told
    server.take_calls()
    before = operator.reconciles
    operator.advance(1200)
    assert (server.take_calls(), operator.reconciles) == ([], before)
    server.edit(JOBS, "team", job["name"], {"spec": {"suspend": False}})
    operator.settle()
    assert server.take_calls().count("list pods") == 1
    (view,) = operator.reconcile._reader.read(server.get(RUNS, "team", "note") or {}).jobs
    assert (view.owner_uid, view.state) == (UID, JobState.ACTIVE)
