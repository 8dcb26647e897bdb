"""The operator's controller on a `FakeServer`, without its process: events, work queue and workers of one thread."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from types import SimpleNamespace
from typing import Any

from atoll_contract.stage import Stage
from atoll_operator.api.crds import definitions
from atoll_operator.api.openapi import defaulted
from atoll_operator.api.status import RunStatus, read_status, rfc3339
from atoll_operator.config import Settings
from atoll_operator.controller.apply import Carrier
from atoll_operator.controller.cache import PodEnds, WatchCache
from atoll_operator.controller.manager import Service
from atoll_operator.controller.metrics import Metrics
from atoll_operator.controller.observed import Looker, Surroundings
from atoll_operator.controller.pods import PodReader
from atoll_operator.controller.queue import RunIndex
from atoll_operator.controller.reconciler import Hindrances, Reconciler
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.kube.client import Body
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import JOBS, PODS, PROFILES, RUNS, STORES
from cluster.objects import profile_manifest, run_manifest, store_manifest
from support.decide_world import UID, success
from support.fake_cluster import FakeCluster, FakeServer

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
        self.cluster = FakeCluster(server, fence=self._fence)
        self._build()
        server.listeners.append(lambda *event: self.events.append(event))

    def _build(self) -> None:
        clock, settings = self.server.clock, self.settings
        service = self.service = Service.__new__(Service)
        service._settings, service._cluster, service.metrics = settings, self.cluster, Metrics()
        service._index, service._cache, service._ends = RunIndex(), WatchCache(), PodEnds()
        self.queue = service._queue = WorkQueue(clock=clock, spread=lambda: 0.5)
        loop: Any = SimpleNamespace(call_soon_threadsafe=lambda call, *given: call(*given))
        service._loop = loop
        service._leading = asyncio.Event()
        around = Surroundings(self.cluster, own_namespace=settings.own_namespace, clock=clock)
        pods = PodReader(self.cluster, settings, clock=clock, now=clock.now, ends=service._ends)
        cache, metrics = service._cache, service.metrics
        self.reconcile = Reconciler(
            self.cluster,
            Looker(self.cluster, around, pods, cache),
            Carrier(self.cluster, around, settings, cache=cache, metrics=metrics, clock=clock.now),
            service._index,
            pods=pods,
            cache=cache,
            hindrances=Hindrances(self.cluster, identity=settings.identity, now=clock.now, clock=clock),
            wake=service._wake,
            retries=settings.retries,
            poll=settings.poll,
            clock=clock.now,
            monotonic=clock,
        )

    def _fence(self) -> None:
        if not self.leads:
            raise NotLeader("not leader: held by another")

    def start(self) -> None:
        """The first list, as a process makes it before its workers begin."""
        self.resync()
        self.service._lead(True)

    def resync(self) -> None:
        for key in self.service._list_keys():
            self.queue.add(key)

    def deliver(self, *plurals: str) -> None:
        """Hands out the events that wait, or those of these kinds."""
        for event in [self.events.popleft() for _ in range(len(self.events))]:
            if plurals and event[1] not in plurals:
                self.events.append(event)
            else:
                self.hand_out(*event)

    def hand_out(self, kind: str, plural: str, body: Body) -> None:
        """One event as the operator's watches bring it."""
        if plural == RUNS.plural:
            self.service.run_changed(kind, body)
        elif "atoll.dev/run-uid" in (body["metadata"].get("labels") or {}):
            line = json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode()
            if plural == JOBS.plural:
                self.service.job_told(line)
            elif plural == PODS.plural and (body.get("status") or {}).get("phase") == "Succeeded":
                self.service._ends._tell(line)

    def work(self, limit: int = 50) -> int:
        """Works on the keys that are due now; returns how many reconciles there were."""
        for count in range(limit):
            key = self.queue.get_due()
            if key is None:
                return count
            self._work_on(key)
        raise AssertionError(f"no rest after {limit} reconciles")

    def _work_on(self, key: Key) -> None:
        self.reconciles += 1
        try:
            again = self.reconcile(key)
        except NotLeader as error:
            self.errors.append((key, error))
            self.queue.done(key, again_after=5.0)
        except ClusterError as error:
            self.errors.append((key, error))
            self.queue.failed(key, at_least=error.retry_after)
        else:
            self.queue.done(key, again_after=again)

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


def job_of(server: FakeServer, stage: Stage) -> Body:
    """The newest Job of the stage."""
    found = [job for job in server.all(JOBS) if job["metadata"]["labels"]["atoll.dev/stage"] == stage]
    return found[-1]


def run_pod(server: FakeServer, stage: Stage) -> None:
    """The stage's newest Job gets a pod, which runs."""
    now = rfc3339(server.clock.now())
    _add_pod(server, job_of(server, stage), "Running", {"running": {"startedAt": now}})


def succeed(server: FakeServer, stage: Stage, message: str | None = None) -> None:
    """The stage's newest Job ends with success: first its pod, then its condition."""
    job, now = job_of(server, stage), rfc3339(server.clock.now())
    attempt = int(job["metadata"]["labels"]["atoll.dev/attempt"])
    text = success(stage, attempt) if message is None else message
    ended = {"exitCode": 0, "reason": "Completed", "message": text, "startedAt": now, "finishedAt": now}
    _add_pod(server, job, "Succeeded", {"terminated": ended})
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": now}
    server.edit(JOBS, "team", job["metadata"]["name"], {"status": {"conditions": [complete]}})


def _add_pod(server: FakeServer, job: Body, phase: str, state: Body) -> None:
    metadata = job["metadata"]
    owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    labels = metadata["labels"] | {"batch.kubernetes.io/job-name": metadata["name"]}
    pod = {
        "metadata": {"name": f"{metadata['name']}-pod", "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "stage"}]},
        "status": {"phase": phase, "containerStatuses": [{"name": "stage", "state": state}]},
    }
    server.add(PODS, pod, "team")
