"""The operator's controller on a `FakeServer`, without its process: events, work queue and workers of one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from atoll_contract.document import rfc3339
from atoll_contract.stage import Stage
from atoll_operator.api.crds import definitions
from atoll_operator.api.defaults import defaulted
from atoll_operator.api.status import RunStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache
from atoll_operator.controller.lists import RunLister
from atoll_operator.controller.manager import EventHandlers
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.reconciler import Reconciler
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.jobs.manifest import FOLLOWING_LABEL, parse_following
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import JOBS, PODS, PROFILES, RUNS, STORES
from atoll_operator.kube.transport import Body, Request
from atoll_operator.lifecycle.model import AttemptNumber
from cluster.objects import profile_manifest, run_manifest, store_manifest
from support.fake_cluster import FakeCluster, FakeServer
from support.run_simulation import UID, success

KEY = ("team", "note")


def add_run(server: FakeServer, name: str = "note", *, uid: str = UID, **spec: Any) -> Body:
    """Creates a TrainingRun with the API server's defaults."""
    manifest: Body = defaulted(run_manifest(name, **spec), definitions()["TrainingRun"].schema)
    manifest["metadata"] = {**manifest["metadata"], "uid": uid}
    return server.add(RUNS, manifest, "team")


def prepared(**profile: Any) -> FakeServer:
    """A server with a profile and a store, as an admin leaves it."""
    server = FakeServer()
    spec = definitions()
    server.add(PROFILES, defaulted(profile_manifest("default", **profile), spec["TrainingProfile"].schema))
    server.add(STORES, defaulted(store_manifest(), spec["ObjectStore"].schema), "team")
    return server


class FakeOperator:
    """One process of the operator. Watch events wait in `events` until `deliver`."""

    def __init__(self, server: FakeServer, settings: Settings | None = None) -> None:
        self.server = server
        self.settings = settings or Settings(own_namespace="atoll-system", identity="operator-0")
        self.leads = True
        self.events: deque[tuple[str, str, Body]] = deque()
        self.errors: list[tuple[Key, Exception]] = []
        self.reconciles = 0
        # What happens while a call and its answer are on their way.
        self.around: Callable[[Request, str], None] = lambda *_: None
        self.cluster = FakeCluster(server, fence=self._fence, around=lambda *call: self.around(*call))
        self.metrics, self.cache = OperatorMetrics(), Cache(server.clock)
        self.runs = QueueManager()
        self.queue = WorkQueue(clock=server.clock, spread=lambda: 0.5)
        self.lister = RunLister(self.cluster, self.cache, self.runs, server.clock.now)
        self.handlers = EventHandlers(self.cache, self.runs, metrics=self.metrics, wake=self._add)
        self.reconcile = Reconciler(
            self.cluster,
            self.cache,
            self.runs,
            self.settings,
            metrics=self.metrics,
            wake=self._add,
            times=TimeSource(server.clock.now, server.clock),
        )
        server.listeners.append(self._on_event)

    def _on_event(self, kind: str, plural: str, body: Body) -> None:
        self.events.append((kind, plural, body))

    def crash(self) -> None:
        """The process is gone with all that it remembered."""
        self.server.listeners.remove(self._on_event)
        self.events.clear()

    def _fence(self) -> None:
        if not self.leads:
            raise NotLeader("not leader: held by another")

    def start(self) -> None:
        """The first list, and that of the Jobs once this process leads, as a process makes them before its workers
        begin."""
        self.resync()
        self.list_jobs()

    def list_jobs(self) -> None:
        for namespace in self.settings.namespaces or (None,):
            self.lister.list_jobs(namespace)

    def resync(self) -> None:
        for namespace in self.settings.namespaces or (None,):
            found = self.lister.list_all(namespace)
            self._add(found.keys)
            for key, delay in found.due:
                self.queue.add(key, delay=delay)

    def deliver(self, *plurals: str) -> None:
        """Hands out the events that wait, or those of these kinds."""
        for event in [self.events.popleft() for _ in range(len(self.events))]:
            if plurals and event[1] not in plurals:
                self.events.append(event)
            else:
                self.hand_out(*event)

    def hand_out(self, kind: str, plural: str, body: Body) -> None:
        """One event as the operator's watches bring it."""
        if plural == PODS.plural and kind == "MODIFIED":
            # The watch of pods selects those that have succeeded: a pod is added to it when it does.
            kind = "ADDED"
        line = msgspec.json.encode({"type": kind, "object": body})
        if plural == RUNS.plural:
            self.handlers.on_run_line(line)
        elif "atoll.dev/run-uid" in (body["metadata"].get("labels") or {}):
            if plural == JOBS.plural:
                self.handlers.on_job_event(line)
            elif plural == PODS.plural and (body.get("status") or {}).get("phase") == "Succeeded":
                self.handlers.on_pod_event(line)

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.queue.add(key)

    def work(self, limit: int = 50) -> int:
        """Works on the keys that are due now; returns how many reconciles there were."""
        for count in range(limit):
            key = self.queue.get_due()
            if key is None:
                return count
            self.work_on(key)
        raise AssertionError(f"no rest after {limit} reconciles")

    def seconds_to_next(self) -> float | None:
        """Seconds until the next key is due; None where none waits."""
        return self.queue._seconds_to_next()

    def work_on(self, key: Key) -> None:
        """One reconcile."""
        self.reconciles += 1
        try:
            requeue_after = self.reconcile(key)
        except NotLeader as error:
            self.errors.append((key, error))
            self.queue.done(key, requeue_after=5.0)
        except ClusterError as error:
            self.errors.append((key, error))
            self.queue.failed(key, min_delay=error.retry_after)
        else:
            self.queue.done(key, requeue_after=requeue_after)

    def settle(self, *, limit: int = 20) -> None:
        """Events and work, until there is neither at this moment."""
        for _ in range(limit):
            self.deliver()
            if self.work() == 0 and not self.events:
                return
        raise AssertionError("no rest")

    def advance(self, seconds: float, *, step: float = 1.0) -> None:
        """Lets time pass, with all that comes up meanwhile."""
        end = self.server.clock.seconds + seconds
        while self.server.clock.seconds < end:
            self.server.clock.advance(min(step, end - self.server.clock.seconds))
            self.settle()


def status_of(server: FakeServer, name: str = "note") -> RunStatus:
    run = server.get(RUNS, "team", name)
    status = read_status(run["status"]) if run else None
    assert status is not None
    return status


def stages_of(job: Body) -> list[AttemptNumber]:
    labels = job["metadata"]["labels"]
    first = AttemptNumber(Stage(labels["atoll.dev/stage"]), int(labels["atoll.dev/attempt"]))
    return [first, *(parse_following(labels.get(FOLLOWING_LABEL, "")) or ())]


def job_of(server: FakeServer, stage: Stage) -> Body:
    """The newest Job with this stage."""
    found = [job for job in server.all(JOBS) if stage in [number.stage for number in stages_of(job)]]
    return found[-1]


def run_pod(server: FakeServer, stage: Stage) -> None:
    """The stage's newest Job gets a pod, or its pod goes on, and the stage's container runs."""
    job, now = job_of(server, stage), rfc3339(server.clock.now())
    first = stages_of(job)[0].stage
    _set_pod(server, job, "Running" if _is_last(job, stage) else "Pending", {stage: {"running": {"startedAt": now}}})
    if first is not stage:
        _set_pod(server, job, None, {first: _ended(server, job, first)})


def succeed(server: FakeServer, stage: Stage, message: str | None = None) -> None:
    """The stage's newest Job ends with success up to this stage: its containers, and with the last of them the pod and
    then the Job's condition."""
    job, now = job_of(server, stage), rfc3339(server.clock.now())
    numbers = stages_of(job)
    done = numbers[: [number.stage for number in numbers].index(stage) + 1]
    states = {number.stage: _ended(server, job, number.stage) for number in done}
    if message is not None:
        states[stage]["terminated"]["message"] = message
    if not _is_last(job, stage):
        _set_pod(server, job, "Pending", states)
        return
    _set_pod(server, job, "Succeeded", states)
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": now}
    server.edit(JOBS, "team", job["metadata"]["name"], {"status": {"conditions": [complete]}})


def _is_last(job: Body, stage: Stage) -> bool:
    return stages_of(job)[-1].stage is stage


def _ended(server: FakeServer, job: Body, stage: Stage) -> Body:
    now = rfc3339(server.clock.now())
    attempt = next(number.attempt for number in stages_of(job) if number.stage is stage)
    text = success(stage, attempt).replace(UID, job["metadata"]["labels"]["atoll.dev/run-uid"])
    return {"terminated": {"exitCode": 0, "reason": "Completed", "message": text, "startedAt": now, "finishedAt": now}}


def _set_pod(server: FakeServer, job: Body, phase: str | None, states: Mapping[Stage, Body]) -> None:
    """The Job's pod, with these states of its containers; those of others stay."""
    metadata = job["metadata"]
    name = f"{metadata['name']}-pod"
    known = server.get(PODS, "team", name)
    if known is None:
        owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
        labels = metadata["labels"] | {"batch.kubernetes.io/job-name": metadata["name"]}
        spec = job["spec"]["template"]["spec"]
        known = {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {kind: spec[kind] for kind in ("initContainers", "containers") if kind in spec},
        }
        server.add(PODS, known, "team")
    status: Body = {"phase": phase} if phase else {}
    for kind, reported in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        before = {item["name"]: item for item in (known.get("status") or {}).get(reported, [])}
        names = [item["name"] for item in known["spec"].get(kind, [])]
        changed = {str(stage): {"name": str(stage), "state": state} for stage, state in states.items()}
        status[reported] = [changed.get(item) or before.get(item) or {"name": item, "state": {}} for item in names]
    server.edit(PODS, "team", name, {"status": status})
