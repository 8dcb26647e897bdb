"""What is around the operator in a cluster: Job controller, kubelet, garbage collector, Kueue, stages and their bucket.

It works on a `FakeServer`, one step at a time, in the order that a generator of random numbers chooses. A pod's
containers run one after the other, init containers first; each is a stage, and its environment has its input.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, exit_code
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import StageResult
from atoll_operator.kube.objects import JOBS, NETWORK_POLICIES, PODS, RUNS, SERVICES, controller_of
from atoll_operator.kube.transport import Body
from cluster.kubelet import StageEnd, result_of
from support.fake_cluster import FakeServer
from support.pod_containers import StageContainer, containers_of, statuses_of
from support.worker_pods import INDEX_LABEL, NO_MORE, OVER, WorkerPods, follow, index_of, lose_peer, worker_count

# Marks Jobs of strangers, which have no pods and which the model's controllers leave alone.
STRANGER = "stranger"
# Why the Job of a stranger failed.
STRANGERS_WORDS = "a stranger says so"
ENDED = ("Complete", "Failed")
# A disruption ends the container as SIGTERM does.
SIGTERM_CODE = 143


@dataclass
class Bucket:
    """What stages have left."""

    # By the UID of the run and the stage, or the folder that a compile target has of its own.
    results: dict[tuple[str, str], StageResult] = field(default_factory=dict)
    # By model and version: the UID of the run that published it, or another word.
    manifests: dict[tuple[str, int], str] = field(default_factory=dict)
    # How often each stage of a run did its work.
    works: Counter[tuple[str, str]] = field(default_factory=Counter)

    def versions_of(self, run_uid: str) -> list[int]:
        return [version for (_, version), owner in self.manifests.items() if owner == run_uid]


class ClusterModel:
    """`faulty`: pods may fail. `kueue`: Jobs begin suspended, and are admitted some time later."""

    def __init__(self, server: FakeServer, rng: random.Random, *, faulty: bool, kueue: bool) -> None:
        self.server = server
        self.bucket = Bucket()
        # Seconds for which containers of a stage have run, by the UID of the run and the stage.
        self.seconds: defaultdict[tuple[str, Stage], float] = defaultdict(float)
        self._rng = rng
        self._faulty = faulty
        self._workers = WorkerPods()
        # By UID of the pod: the stage that its running container works on, and since when.
        self._running: dict[str, tuple[tuple[str, Stage], float]] = {}
        server.collects_garbage = False
        if kueue:
            server.admit = _suspend
        server.listeners.append(self._on_event)

    def step(self, *, healthy: bool = False) -> bool:
        """Does one thing, and returns whether there was any to do. `healthy`: no pod fails from now on."""
        if healthy:
            self._faulty = False
        actions = [*self._actions_of_jobs(), *self._actions_of_pods()]
        if actions:
            self._rng.choice(actions)()
        return bool(actions)

    def running_seconds(self, run_uid: str, stage: Stage) -> float:
        """How long containers of this stage have run so far."""
        now = self.server.clock()
        open_ = sum(now - since for work, since in self._running.values() if work == (run_uid, stage))
        return self.seconds[run_uid, stage] + open_

    def objects(self, plural: str) -> list[Body]:
        """The objects themselves, which are not to be changed."""
        return [body for key, body in self.server.objects.items() if key[0] == plural]

    def remove_pod(self, pod: Body) -> None:
        self.server.remove(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])

    def suspend(self, job: Body) -> None:
        """Kueue takes the Job's place back: its pods end without a word."""
        self.server.edit(JOBS, "team", job["metadata"]["name"], {"spec": {"suspend": True}})
        for pod in self.pods_of(job):
            self.remove_pod(pod)
        self._workers.forget(job)

    # The Job controller, Kueue and the garbage collector.

    def _actions_of_jobs(self) -> Iterator[Callable[[], Any]]:
        runs = {run["metadata"]["uid"] for run in self.objects(RUNS.plural)}
        for job in self.objects(JOBS.plural):
            if STRANGER in (job["metadata"].get("annotations") or {}):
                continue
            if controller_of(job, "TrainingRun").get("uid") not in runs:
                yield partial(self.server.remove, JOBS, "team", job["metadata"]["name"])
            elif action := self._action_of(job):
                yield action
        for resource in (SERVICES, NETWORK_POLICIES):
            for item in self.objects(resource.plural):
                if controller_of(item, "TrainingRun").get("uid") not in runs:
                    yield partial(self.server.remove, resource, "team", item["metadata"]["name"])

    def _action_of(self, job: Body) -> Callable[[], Any] | None:
        conditions = conditions_of(job)
        if conditions & set(ENDED):
            return None
        for announced, ended in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
            if announced in conditions:
                left = [pod for pod in self.pods_of(job) if pod["status"]["phase"] not in OVER]
                # The Job has ended once all of its pods have.
                return partial(self.remove_pod, left[0]) if left else partial(self._end_job, job, ended)
        if job["spec"].get("suspend"):
            return partial(self.server.edit, JOBS, "team", job["metadata"]["name"], {"spec": {"suspend": None}})
        pods = self.pods_of(job)
        return self._next_of_pod(job, pods) if worker_count(job) == 1 else self._next_of_workers(job, pods)

    def _next_of_pod(self, job: Body, pods: list[Body]) -> Callable[[], Any] | None:
        ended = [pod for pod in pods if pod["status"]["phase"] in OVER]
        if any(pod["status"]["phase"] == "Succeeded" for pod in ended):
            return partial(self._add_condition, job, "SuccessCriteriaMet")
        if any(not pod["status"].get("conditions") for pod in ended):
            return partial(self._add_condition, job, "FailureTarget", **NO_MORE)
        if len(ended) == len(pods):
            return partial(self._create_pod, job)
        return self._count_active(job)

    def _next_of_workers(self, job: Body, pods: list[Body]) -> Callable[[], Any] | None:
        if any(index_of(pod) == 0 and pod["status"]["phase"] == "Succeeded" for pod in pods):
            return partial(self._add_condition, job, "SuccessCriteriaMet")
        if why := self._workers.failure(job, pods):
            return partial(self._add_condition, job, "FailureTarget", **why)
        if missing := self._workers.missing(job, pods):
            return partial(self._create_pod, job, self._rng.choice(missing))
        return self._count_active(job)

    def _count_active(self, job: Body) -> Callable[[], Any] | None:
        if not (job.get("status") or {}).get("active"):
            return partial(self.server.edit, JOBS, "team", job["metadata"]["name"], {"status": {"active": 1}})
        return None

    def _end_job(self, job: Body, kind: str) -> None:
        announced = job["status"]["conditions"][-1]
        self._add_condition(job, kind, **{key: announced[key] for key in ("reason", "message") if key in announced})

    def _add_condition(self, job: Body, kind: str, **why: str) -> None:
        condition = {"type": kind, "status": "True", "lastTransitionTime": self._now(), **why}
        known = (job.get("status") or {}).get("conditions") or []
        counted = {"succeeded": 1} if kind == "Complete" else {}
        status = {"conditions": [*known, condition], **counted}
        self.server.edit(JOBS, "team", job["metadata"]["name"], {"status": status})

    def _create_pod(self, job: Body, index: int | None = None) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
        labels = template["metadata"]["labels"] | {"batch.kubernetes.io/job-name": name}
        labels |= {} if index is None else {INDEX_LABEL: str(index)}
        pod = {
            "metadata": {"name": f"{name}-{self.server.version}", "labels": labels, "ownerReferences": [owner]},
            "spec": template["spec"] | {"nodeName": "pc"},
            "status": {"phase": "Pending"},
        }
        self.server.add(PODS, pod, "team")

    def pods_of(self, job: Body) -> list[Body]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.objects(PODS.plural) if controller_of(pod, "Job").get("uid") == uid]

    # The kubelet.

    def _actions_of_pods(self) -> Iterator[Callable[[], Any]]:
        jobs = {job["metadata"]["uid"]: job for job in self.objects(JOBS.plural)}
        for pod in self.objects(PODS.plural):
            if STRANGER in (pod["metadata"].get("annotations") or {}):
                continue
            job = jobs.get(controller_of(pod, "Job").get("uid", ""))
            if job is None:
                yield partial(self.remove_pod, pod)
            elif pod["status"]["phase"] not in OVER:
                container = self._unfinished(pod)
                if pod["metadata"]["uid"] not in self._running:
                    yield partial(self._start, pod, container)
                    continue
                if end := self._own_end(pod, job, container):
                    yield partial(self._end, pod, container, end)
                if self._faulty:
                    yield partial(self._end, pod, container, self._fail)

    def _own_end(self, pod: Body, job: Body, container: StageContainer) -> Callable[[StageInput, str], StageEnd] | None:
        """How the container ends where nothing happens to it; None of a worker that waits for others."""
        index, pods = index_of(pod), self.pods_of(job)
        if index is None:
            return self._succeed
        if self._workers.peer_is_lost(pod, pods):
            return lose_peer
        at_work = [one for one in pods if one["metadata"]["uid"] in self._running or one["status"]["phase"] in OVER]
        is_done = (container.given.run.uid, container.given.folder) in self.bucket.results
        if len(at_work) < worker_count(job) and not is_done:
            return None
        return follow if index else self._succeed

    def _unfinished(self, pod: Body) -> StageContainer:
        states = {item["name"]: item["state"] for item in statuses_of(pod)}
        return next(item for item in containers_of(pod) if "terminated" not in states.get(item.name, {}))

    def _start(self, pod: Body, container: StageContainer) -> None:
        work = (container.given.run.uid, container.given.stage)
        self._running[pod["metadata"]["uid"]] = (work, self.server.clock())
        phase = "Running" if container.statuses == "containerStatuses" else "Pending"
        self._report(pod, container, {"running": {"startedAt": self._now()}}, phase)

    def _end(self, pod: Body, container: StageContainer, how: Callable[[StageInput, str], StageEnd]) -> None:
        end, is_last = how(container.given, pod["metadata"]["uid"]), container == containers_of(pod)[-1]
        self._stop(pod["metadata"]["uid"])
        state = next(item["state"] for item in statuses_of(pod) if item["name"] == container.name)
        times = {"startedAt": state["running"]["startedAt"], "finishedAt": self._now()}
        ended = {"exitCode": end.exit_code, "reason": end.reason, "message": end.message, **times}
        phase = "Failed" if end.exit_code else "Succeeded" if is_last else "Pending"
        self._report(pod, container, {"terminated": ended}, phase, disruption=end.disruption)

    def _report(self, pod: Body, container: StageContainer, state: Body, phase: str, *, disruption: str = "") -> None:
        known = pod["status"].get(container.statuses) or []
        others = [item for item in known if item["name"] != container.name]
        status: Body = {"phase": phase, container.statuses: [*others, {"name": container.name, "state": state}]}
        if disruption:
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "message": disruption}]
        self.server.edit(PODS, "team", pod["metadata"]["name"], {"status": status})

    def _stop(self, pod_uid: str) -> None:
        if pod_uid in self._running:
            work, since = self._running.pop(pod_uid)
            # Times in a pod's status are whole seconds.
            self.seconds[work] += self.server.clock() - since + 1

    def _on_event(self, kind: str, plural: str, body: Body) -> None:
        if kind == "DELETED" and plural == PODS.plural:
            self._stop(body["metadata"]["uid"])
            self._workers.note_removal(body)

    # The stages.

    def _succeed(self, given: StageInput, pod_uid: str) -> StageEnd:
        """The stage does its work, or finds that an earlier attempt did it."""
        work = (given.run.uid, given.folder)
        self._check_upstream(given)
        known = self.bucket.results.get(work)
        if known is not None:
            return _reported(replace(known, attempt=given.attempt, reason=Reason.ADOPTED))
        if given.publish is not None and given.publish.adopt_only:
            published = self.bucket.manifests.get((given.publish.model, given.publish.version))
            if published != given.run.uid:
                nothing = StageResult(given.stage, given.attempt, Reason.CANCELLED, "not published")
                return _reported(nothing, exit_code(Reason.CANCELLED))
        elif given.publish is not None:
            owner = self.bucket.manifests.setdefault((given.publish.model, given.publish.version), given.run.uid)
            if owner != given.run.uid:
                taken = [version for model, version in self.bucket.manifests if model == given.publish.model]
                summary = {"nextVersion": max(taken) + 1}
                return _reported(
                    StageResult(given.stage, given.attempt, Reason.VERSION_CONFLICT, "taken", summary=summary), 52
                )
        self.bucket.works[work] += 1
        self.bucket.results[work] = result_of(given, pod_uid)
        return _reported(self.bucket.results[work])

    def _check_upstream(self, given: StageInput) -> None:
        """What the stage was given is what earlier stages left."""
        handed_over = getattr(given, "handed_over", None) or ()
        for stage in list(Stage)[: list(Stage).index(given.stage)]:
            left = self.bucket.results.get((given.run.uid, stage))
            if left is not None and stage is not Stage.COMPILE and stage not in handed_over:
                assert stage in given.upstream, f"{given.stage} was not given the outputs of {stage}"

    def _fail(self, given: StageInput, pod_uid: str) -> StageEnd:
        def failed(reason: Reason, code: int) -> StageEnd:
            return _reported(StageResult(given.stage, given.attempt, reason, "it failed"), code)

        if given.publish is not None and not given.publish.adopt_only and self._rng.random() < 0.5:
            # The manifest is out, and the channel's pointer is not.
            self.bucket.manifests.setdefault((given.publish.model, given.publish.version), given.run.uid)
        return self._rng.choice(
            [
                failed(Reason.STORAGE_UNAVAILABLE, 30),
                failed(Reason.DATASET_MALFORMED, 13),
                StageEnd(137, "", "Error"),
                StageEnd(137, "", "OOMKilled"),
                StageEnd(0, "no result"),
                StageEnd(SIGTERM_CODE, "", "Error", disruption="drained"),
            ]
        )

    def _now(self) -> str:
        return rfc3339(self.server.clock.now())


def conditions_of(job: Body) -> set[str]:
    return {item["type"] for item in (job.get("status") or {}).get("conditions") or []}


def _reported(result: StageResult, code: int = 0) -> StageEnd:
    return StageEnd(code, result.termination_message().decode(), "Error" if code else "Completed")


def _suspend(plural: str, body: Body) -> None:
    if plural == JOBS.plural and STRANGER not in (body["metadata"].get("annotations") or {}):
        body["spec"]["suspend"] = True
