"""Events become keys, and keys become reconciles with an outcome that is counted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from atoll_operator.api.status import Phase
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache
from atoll_operator.controller.manager import STANDBY_SECONDS, EventHandlers, Manager, work
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.kube.errors import Conflict, Forbidden, Unavailable
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import RUNS
from atoll_operator.kube.transport import Body
from support.fake_cluster import FakeClock, FakeCluster
from support.fake_operator import KEY, add_run, prepared


class Listener:
    """Event handlers, and the keys that they wake."""

    def __init__(self) -> None:
        self.server = prepared()
        self.woken: list[Key] = []
        self.cache, self.queue = Cache(self.server.clock), QueueManager()
        self.handlers = EventHandlers(self.cache, self.queue, metrics=OperatorMetrics(), wake=self._wake)

    def _wake(self, keys: Iterable[Key]) -> None:
        self.woken += keys

    def run_event(self, kind: str, run: Body) -> None:
        self.handlers.on_run_line(json.dumps({"type": kind, "object": run}, separators=(",", ":")).encode())

    def job_event(self, kind: str, job: Body) -> None:
        self.handlers.on_job_event(json.dumps({"type": kind, "object": job}, separators=(",", ":")).encode())


@pytest.fixture
def listener() -> Listener:
    return Listener()


def job(version: int, *, labels: dict[str, str] | None = None, **body: Any) -> Body:
    metadata = {
        "namespace": "team",
        "name": "job",
        "uid": "job-uid",
        "resourceVersion": str(version),
        "labels": {"atoll.dev/run": "note", "atoll.dev/run-uid": "run-uid"} if labels is None else labels,
        "ownerReferences": [{"kind": "TrainingRun", "uid": "run-uid", "controller": True}],
    }
    return {"metadata": metadata, **body}


COMPLETE: Body = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_a_new_version_of_a_run_wakes_it_once(listener: Listener, kind: str) -> None:
    run = add_run(listener.server)
    listener.handlers.on_run_event(kind, run)
    listener.handlers.on_run_event("MODIFIED", run)
    assert listener.woken == [KEY]
    assert listener.cache.run(KEY) is not None
    assert listener.queue.keys() == [KEY]


@pytest.mark.parametrize(("kind", "known"), [("ADDED", []), ("MODIFIED", None)])
def test_only_a_run_that_was_just_created_has_no_jobs(listener: Listener, kind: str, known: Any) -> None:
    run = add_run(listener.server)
    listener.handlers.on_run_event(kind, run)
    assert listener.cache.jobs.get(("team", run["metadata"]["uid"])) == known


def test_a_deleted_run_is_woken_and_forgotten(listener: Listener) -> None:
    run = add_run(listener.server)
    listener.handlers.on_run_event("ADDED", run)
    listener.handlers.on_run_event("DELETED", run)
    assert listener.woken == [KEY, KEY]
    assert listener.cache.run(KEY) is None
    assert listener.queue.keys() == []


@pytest.mark.parametrize(
    ("kind", "event", "wakes"),
    [
        ("MODIFIED", job(2, **COMPLETE), True),
        ("MODIFIED", job(2, status={"active": 1}), False),
        ("ADDED", job(2), False),
        ("DELETED", job(2), True),
        ("MODIFIED", job(2, spec={"suspend": True}), True),
        ("MODIFIED", job(2, labels={"atoll.dev/run-uid": "run-uid"}, **COMPLETE), False),
    ],
    ids=["its end", "its counters", "known already", "deleted", "suspended", "no run's name"],
)
def test_of_a_jobs_events_those_wake_its_run_that_change_something(
    listener: Listener, kind: str, event: Body, wakes: bool
) -> None:
    listener.cache.read_jobs(("team", "run-uid"), lambda: [job(1)])
    listener.job_event(kind, event)
    assert listener.woken == ([KEY] if wakes else [])


def test_the_event_of_an_own_write_is_passed_over_without_a_look_at_it(listener: Listener) -> None:
    run = add_run(listener.server)
    listener.run_event("ADDED", run)
    written = listener.server.edit(RUNS, *KEY, {"status": {"phase": "Pending"}})
    listener.cache.note_own_write(written)
    listener.run_event("MODIFIED", written)
    assert listener.woken == [KEY]
    assert listener.queue.count(Phase.PENDING) == 1
    # Another's write is none, whatever a user calls an annotation.
    foreign = listener.server.edit(
        RUNS, *KEY, {"metadata": {"annotations": {"resourceVersion": written["metadata"]["resourceVersion"]}}}
    )
    listener.run_event("MODIFIED", foreign)
    assert listener.woken == [KEY, KEY]
    listener.run_event("DELETED", foreign)
    assert listener.queue.keys() == []


@pytest.mark.parametrize(
    ("raised", "outcome", "wait"),
    [
        (None, "done", 7.0),
        (NotLeader("not leader: held by another"), "standby", STANDBY_SECONDS),
        (Conflict("update trainingruns/status", "modified"), "conflict", 0.5),
        (Unavailable("get jobs", "too busy", retry_after=9.0), "unavailable", 9.0),
        (Forbidden("create jobs", "no right"), "unavailable", 0.5),
        (KeyError("labels"), "fault", 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_reconcile_has_an_outcome_and_a_next_time(
    raised: Exception | None, outcome: str, wait: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock, metrics, reconciled = FakeClock(), OperatorMetrics(), []

    def reconcile(key: Key) -> float | None:
        reconciled.append(key)
        if raised is not None:
            raise raised
        return 7.0

    async def scenario() -> WorkQueue:
        queue, leading = WorkQueue(clock=clock, spread=lambda: 0.5), asyncio.Event()
        queue.add(KEY)
        with ThreadPoolExecutor(1) as executor:
            worker = asyncio.create_task(work(queue, reconcile, leading=leading, executor=executor, metrics=metrics))
            await asyncio.sleep(0)
            assert reconciled == []
            leading.set()
            while not counted(metrics):
                await asyncio.sleep(0.001)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        return queue

    queue = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert counted(metrics) == {outcome: 1.0}
    clock.advance(wait - 0.01)
    assert queue.get_due() is None
    clock.advance(0.01)
    assert queue.get_due() == KEY
    # An error of the operator's own is one in the log, and nothing else is.
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(errors) is (outcome == "fault")


def counted(metrics: OperatorMetrics) -> dict[str, float]:
    samples = [sample for family in metrics.reconciles.collect() for sample in family.samples]
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.value}


def test_runs_at_work_go_ahead_of_those_that_have_yet_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    server = prepared()
    waiting = add_run(server)
    at_work = json.loads(json.dumps(waiting))
    at_work["metadata"] |= {"name": "at-work", "uid": "at-work"}
    at_work["status"] = {"phase": "Training", "activeSince": "2027-01-09T18:00:00Z"}
    queues: list[WorkQueue] = []

    def recorded(**options: Any) -> WorkQueue:
        queues.append(WorkQueue(**options))
        return queues[-1]

    monkeypatch.setattr("atoll_operator.controller.manager.connect", lambda **_: FakeCluster(server))
    monkeypatch.setattr("atoll_operator.controller.manager.WorkQueue", recorded)

    async def serve() -> None:
        manager = Manager(Settings(own_namespace="atoll-system", identity="operator-0", metrics_port=0))
        for run in (waiting, at_work):
            manager.events.on_run_event("ADDED", run)
        await asyncio.sleep(0)
        await manager.stop()

    asyncio.run(asyncio.wait_for(serve(), 30))
    assert [queues[0].get_due(), queues[0].get_due()] == [("team", "at-work"), KEY]


class BrokenWatcher:
    """A watch that can never work."""

    def __init__(self, *_: Any, give_up: Callable[[Exception], None]) -> None:
        self._give_up = give_up

    def start(self) -> None:
        self._give_up(KeyError("resourceVersion"))


def test_O23_the_process_ends_with_the_error_of_a_watch_that_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = prepared()
    monkeypatch.setattr("atoll_operator.controller.manager.connect", lambda **_: FakeCluster(server))
    monkeypatch.setattr("atoll_operator.controller.manager.Watcher", BrokenWatcher)

    async def serve() -> None:
        manager = Manager(Settings(own_namespace="atoll-system", identity="operator-0", metrics_port=0))
        try:
            await manager.run()
        finally:
            await manager.stop()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(asyncio.wait_for(serve(), 30))
    assert raised.value.subgroup(KeyError)
