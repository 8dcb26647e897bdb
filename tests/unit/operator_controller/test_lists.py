"""What the lists bring, and what they cost: one of runs and one of Jobs a namespace, however many runs are over."""

from __future__ import annotations

import copy
import gc
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from atoll_contract.document import rfc3339
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.api.status_codec import write_status
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache
from atoll_operator.controller.lists import RunLister
from atoll_operator.controller.queue import QueueManager
from atoll_operator.jobs.manifest import job_name
from atoll_operator.kube.client import LIST_PAGE
from atoll_operator.kube.objects import JOBS, RUNS, Resource
from atoll_operator.kube.transport import Body
from support.fake_cluster import FakeClock, FakeCluster, FakeServer
from support.fake_operator import KEY, FakeOperator, add_run, prepared
from support.run_simulation import RunSimulation

RUN_COUNT = 5000
RUNS_WITH_JOBS = 400
DAY = 86_400


def finished(
    server: FakeServer, name: str, *, phase: str = "Succeeded", retry: str = "", ttl: int | None = None
) -> Body:
    add_run(server, name, uid=f"{name}-uid")
    changes: Body = {"status": {"phase": phase, "completionTime": rfc3339(server.clock.now())}}
    if retry:
        changes["metadata"] = {"annotations": {"atoll.dev/retry": retry}}
    if ttl is not None:
        changes["spec"] = {"runPolicy": {"ttlSecondsAfterFinished": ttl}}
    return server.edit(RUNS, "team", name, changes)


def add_job(server: FakeServer, run: Body, stage: Stage, *, over: bool = True, namespace: str = "team") -> Body:
    name, uid = run["metadata"]["name"], run["metadata"]["uid"]
    labels = {"run": name, "run-uid": uid, "stage": str(stage), "attempt": "1"}
    metadata = {
        "name": job_name(name, uid, stage, 1),
        "labels": {f"atoll.dev/{key}": value for key, value in labels.items()},
        "ownerReferences": [{"kind": "TrainingRun", "uid": uid, "controller": True}],
    }
    status = {"conditions": [{"type": "Complete", "status": "True"}]} if over else {}
    return server.add(JOBS, {"metadata": metadata, "status": status}, namespace)


def test_O27_five_thousand_finished_runs_hold_no_new_run_up() -> None:
    server = prepared()
    one = finished(server, "old")
    server.objects.clear()
    server.objects.update(prepared().objects)
    for number in range(RUN_COUNT):
        run = copy.deepcopy(one)
        run["metadata"] |= {"name": f"old-{number}", "uid": f"old-{number}-uid"}
        server.objects["trainingruns", "team", f"old-{number}"] = run
        if number < RUNS_WITH_JOBS:
            for stage in (Stage.CONVERT, Stage.TRAIN, Stage.COMPILE):
                add_job(server, run, stage)
    add_run(server)
    operator = FakeOperator(server)
    operator.start()
    listed = len(server.take_calls())
    # Both lists, and that of the Jobs once more when this process leads.
    assert listed == -(-(RUN_COUNT + 1) // LIST_PAGE) + 2 * (3 * RUNS_WITH_JOBS // LIST_PAGE)
    assert operator.queue.get_due() == KEY
    operator.queue.done(KEY, requeue_after=0)
    operator.work()
    calls = server.take_calls()
    assert calls.count("create jobs") == 1
    assert operator.reconciles == 1
    assert listed + len(calls) <= 200
    operator.resync()
    operator.work()
    assert len(server.take_calls()) <= 100
    assert operator.reconciles <= 2


@pytest.mark.parametrize(
    ("changes", "job", "wait"),
    [
        ({}, None, None),
        ({}, "over", DAY),
        ({}, "at work", 0),
        ({"ttl": 600}, None, 600),
        ({"ttl": 600}, "over", 600),
        ({"ttl": 10 * DAY}, "over", DAY),
        ({"phase": "Failed", "retry": "again"}, None, 0),
        ({"phase": "Succeeded", "retry": "again"}, None, None),
    ],
    ids=["rests", "Jobs expire", "a Job outlives it", "it expires", "first itself", "first Jobs", "retry", "no retry"],
)
def test_a_finished_run_is_reconciled_when_something_is_due(changes: Any, job: str | None, wait: int | None) -> None:
    server = prepared()
    run = finished(server, "note", **changes)
    if job is not None:
        add_job(server, run, Stage.CONVERT, over=job == "over")
    operator = FakeOperator(server)
    found = operator.lister.list_all(None)
    assert found.keys == []
    assert found.due == ([] if wait is None else [(KEY, wait)])


def test_what_is_due_at_a_finished_run_is_done_at_its_time() -> None:
    server = prepared()
    run = finished(server, "note", ttl=2 * DAY)
    add_job(server, run, Stage.CONVERT)
    operator = FakeOperator(server)
    operator.start()
    operator.advance(DAY - 60, step=DAY)
    assert len(server.all(JOBS)) == 1
    operator.advance(120, step=60)
    assert server.all(JOBS) == []
    operator.advance(DAY, step=DAY)
    assert server.all(RUNS) == []


def test_a_job_that_outlives_its_run_is_deleted_at_the_start() -> None:
    server = prepared()
    add_job(server, finished(server, "note"), Stage.TRAIN, over=False)
    operator = FakeOperator(server)
    operator.start()
    operator.settle()
    assert server.all(JOBS) == []


def test_a_strangers_job_does_not_have_a_finished_run_reconciled() -> None:
    server = prepared()
    add_job(server, finished(server, "note"), Stage.TRAIN, over=False, namespace="evil")
    found = FakeOperator(server).lister.list_all(None)
    assert (found.keys, found.due) == ([], [])


@pytest.mark.parametrize("namespaces", [(), ("team",), ("team", "other")])
def test_a_list_brings_the_runs_of_its_namespaces_and_those_that_are_gone(namespaces: tuple[str, ...]) -> None:
    server = prepared()
    operator = FakeOperator(server, Settings(namespaces=namespaces))
    gone = add_run(server, "gone", uid="gone-uid")
    operator.hand_out("ADDED", "trainingruns", gone)
    server.remove(RUNS, "team", "gone")
    add_run(server)
    server.take_calls()
    found = [operator.lister.list_all(namespace) for namespace in namespaces or (None,)]
    assert [key for item in found for key in item.keys] == [KEY, ("team", "gone")]
    assert server.take_calls() == ["list trainingruns", "list jobs"] * max(1, len(namespaces))
    operator.resync()
    operator.work()
    assert operator.runs.keys() == [KEY]


def test_after_the_server_was_restored_from_a_backup_nothing_known_holds() -> None:
    server = prepared()
    backup = copy.deepcopy(add_run(server))
    operator = FakeOperator(server)
    operator.start()
    operator.settle()
    assert server.get(RUNS, *KEY) != backup
    server.objects["trainingruns", *KEY] = backup
    operator.resync()
    assert operator.cache.version(KEY) is None
    assert operator.runs.keys() == [KEY]


def test_the_jobs_of_all_runs_are_listed_once_and_then_known() -> None:
    server = prepared(maxConcurrentRuns=10)
    runs = [add_run(server, f"run-{number}", uid=f"uid-{number}") for number in range(5)]
    jobs = [add_job(server, run, Stage.CONVERT, over=False) for run in runs]
    operator = FakeOperator(server)
    operator.start()
    assert server.take_calls() == ["list trainingruns", "list jobs", "list jobs"]
    for run, job in zip(runs, jobs, strict=True):
        known = operator.cache.jobs.get(("team", run["metadata"]["uid"])) or []
        assert [item["metadata"]["name"] for item in known] == [job["metadata"]["name"]]


def test_little_is_kept_of_a_finished_run() -> None:
    simulation = RunSimulation()
    simulation.finish()
    run = add_run(prepared(), "old")
    text = json.dumps(run | {"status": write_status(simulation.read())})
    count, cache, queue = 500, Cache(), QueueManager()

    class Runs(FakeCluster):
        def list_each(
            self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
        ) -> Iterator[Body]:
            for number in range(count if resource is RUNS else 0):
                body = json.loads(text)
                body["metadata"] |= {"name": f"old-{number:05}", "uid": f"{number:036}"}
                yield body

    lister = RunLister(Runs(FakeServer()), cache, queue, FakeClock().now)
    gc.collect()
    tracemalloc.start()
    try:
        lister.list_all(None)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert queue.count(Phase.SUCCEEDED) == count
    # 10,000 of them have 15 MB at most.
    assert kept / count < 1500
