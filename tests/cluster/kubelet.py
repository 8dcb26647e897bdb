"""Plays the kubelet where there is no node: gives the pods of stages the ends that a test's script says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import kubernetes.client
from kubernetes.client.exceptions import ApiException

from atoll_contract import keys
from atoll_contract.errors import Reason
from atoll_contract.release import compile_artifact
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import Artifact, StageResult
from atoll_operator.jobs.manifest import EARLIER_CONTAINER

SHA256 = "a" * 64
RUN_LABEL = "atoll.dev/run"
RUN_UID_LABEL = "atoll.dev/run-uid"


@dataclass(frozen=True)
class StageEnd:
    """How a stage's container ended."""

    exit_code: int
    message: str
    reason: str = "Completed"
    # Why the pod was disrupted (drain, preemption); its container may well have had another fate.
    disruption: str = ""
    # What the kubelet says of the pod as a whole when it evicts it.
    eviction: str = ""
    # Another container keeps the pod running, and this many seconds ago the stage's ended.
    outlived_by: float | None = None


# What becomes of a stage's container; None leaves it running, and asks again.
Script = Callable[[StageInput, str], StageEnd | None]


def succeed(given: StageInput, pod_uid: str) -> StageEnd:
    """The end of a stage that did its work."""
    return StageEnd(0, result_of(given, pod_uid).termination_message().decode())


def result_of(given: StageInput, pod_uid: str) -> StageResult:
    """The result of a stage that did its work, as the stage contract asks for."""
    assert given.publish or given.stage is not Stage.PUBLISH
    return StageResult(
        stage=given.stage,
        attempt=given.attempt,
        reason=Reason.COMPLETED,
        message=f"{given.stage} done",
        outputs=tuple(Artifact(name, key, SHA256, 100) for name, key in _outputs(given, pod_uid).items()),
        summary=_summary(given),
    )


def run_on(given: StageInput, pod_uid: str) -> StageEnd | None:
    """A stage that goes on working."""
    return None


def failing(reason: Reason, message: str, *, exit_code: int, summary: Mapping[str, Any] | None = None) -> Script:
    """A stage that fails each time and says why."""

    def script(given: StageInput, pod_uid: str) -> StageEnd:
        result = StageResult(given.stage, given.attempt, reason, message, summary=summary or {})
        return StageEnd(exit_code, result.termination_message().decode(), reason="Error")

    return script


def _outputs(given: StageInput, pod_uid: str) -> dict[str, str]:
    own, namespace = given.prefix(pod_uid), given.run.namespace
    if given.stage is Stage.CONVERT:
        cache = keys.cached_dataset(namespace, SHA256)
        return {"dataset": f"{cache}dataset.json", "labels": f"{cache}map.pbtxt"}
    if given.stage is Stage.PUBLISH:
        assert given.publish is not None
        model, version = given.publish.model, given.publish.version
        return {
            "manifest": keys.manifest(namespace, model, version),
            "bundle": keys.blob(SHA256),
            "channel": keys.channel(namespace, model, given.publish.channel),
        }
    names = {
        Stage.TRAIN: ("weights", "history"),
        Stage.EXPORT: ("model", "labels", "metrics", "mapping", "golden", "report"),
        Stage.COMPILE: tuple(compile_artifact(given.target or "edgetpu", name) for name in ("compiled", "log")),
    }
    return {name: f"{own}{name}" for name in names[given.stage]}


def _summary(given: StageInput) -> dict[str, Any]:
    if given.stage is Stage.CONVERT:
        return {
            "digest": SHA256,
            "pictures": 110,
            "train": 80,
            "validation": 30,
            "classes": [{"name": "RBC", "boxes": 7}],
        }
    if given.stage is Stage.EXPORT:
        int8 = {"ap50": 0.88, "ap": 0.6, "perClass": {"RBC": 0.8}}
        return {"metrics": {"float": {"ap50": 0.9, "ap": 0.61}, "int8": int8}, "predictedMappedPercent": 97.6}
    if given.stage is Stage.COMPILE:
        return {"target": given.target or "edgetpu", "compiled": True, "mappedPercent": 98.0}
    return {}


@dataclass
class Kubelet:
    """Serves the stages' pods of one namespace from a thread of its own, while the `with` block lasts.

    `scripts` holds, by run's name and stage, what ends otherwise than in success; a test may change it at any time.
    """

    api: kubernetes.client.ApiClient
    namespace: str
    scripts: dict[tuple[str, Stage], Script] = field(default_factory=dict)
    # By run's name: the waiting state of pods that do not start.
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    # By run's name: the scheduler's words on pods that find no node.
    unscheduled: dict[str, str] = field(default_factory=dict)
    interval_seconds: float = 0.1

    def __post_init__(self) -> None:
        self._core = kubernetes.client.CoreV1Api(self.api)
        self._stop = threading.Event()
        self._at_work = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="kubelet")
        # The states of the containers by the pod's UID and their names, as last reported.
        self._states: dict[str, dict[str, dict[str, Any]]] = {}
        # Pods whose stage has ended and that go on for another container's sake.
        self._ended: set[str] = set()
        # What went wrong in the thread; raised at the end of the block.
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        if self._error is not None and error is None:
            raise self._error

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is asked of the API server meanwhile."""
        with self._at_work:
            yield

    def _serve(self) -> None:
        try:
            while not self._stop.wait(self.interval_seconds):
                with self._at_work:
                    for pod in self._pods():
                        self._step(pod)
        except Exception as error:  # noqa: BLE001  a thread's error is raised in the test's own
            self._error = error

    def _pods(self) -> list[dict[str, Any]]:
        answer = self._core.list_namespaced_pod(
            self.namespace, label_selector=RUN_UID_LABEL, _preload_content=False, _request_timeout=10
        )
        pods: list[dict[str, Any]] = json.loads(answer.data)["items"]
        return pods

    def _step(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        if pod["status"]["phase"] in ("Succeeded", "Failed") or "deletionTimestamp" in metadata:
            return
        run = metadata["labels"][RUN_LABEL]
        if metadata["uid"] in self._ended:
            return
        if run in self.unscheduled:
            words = _condition("PodScheduled", "False", reason="Unschedulable", message=self.unscheduled[run])
            self._patch_status(pod, {"phase": "Pending", "conditions": [words]})
            return
        container, is_last = self._container_at_work(pod)
        waiting = self.waiting.get(run)
        if waiting is not None:
            self._patch(pod, "Pending", container, {"waiting": waiting})
            return
        if "running" not in self._state(pod, container):
            self._patch(pod, "Running" if is_last else "Pending", container, {"running": {"startedAt": _now()}})
        environment = {item["name"]: item.get("value", "") for item in container["env"]}
        given = StageInput.from_env({name: value.replace("$$", "$") for name, value in environment.items()})
        end = self.scripts.get((given.run.name, given.stage), succeed)(given, metadata["uid"])
        if end is not None:
            self._end(pod, container, end, is_last=is_last)

    def _container_at_work(self, pod: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The first container that has not ended, and whether it is the pod's last."""
        containers = stage_containers(pod)
        left = [item for item in containers if "terminated" not in self._state(pod, item)]
        return left[0], left[0] is containers[-1]

    def _state(self, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
        return self._states.get(pod["metadata"]["uid"], {}).get(container["name"], {})

    def _end(self, pod: dict[str, Any], container: dict[str, Any], end: StageEnd, *, is_last: bool) -> None:
        ended = {"exitCode": end.exit_code, "reason": end.reason, "message": end.message}
        # After an init container the pod goes on anyway.
        outlived_by = end.outlived_by if is_last else None
        finished = datetime.now(UTC) - timedelta(seconds=outlived_by or 0)
        times = {"startedAt": _rfc3339(finished), "finishedAt": _rfc3339(finished)}
        is_stopped = bool(end.exit_code or end.disruption or end.eviction)
        phase = "Failed" if end.exit_code or (is_stopped and not is_last) else "Succeeded" if is_last else "Pending"
        if outlived_by is not None:
            phase = "Running"
            self._ended.add(pod["metadata"]["uid"])
        why = "TerminationByKubelet" if end.eviction else "Preempted"
        disrupted = _condition("DisruptionTarget", "True", reason=why, message=end.disruption)
        conditions = [disrupted] if end.disruption else []
        words = {"reason": "Evicted", "message": end.eviction} if end.eviction else {}
        self._patch(pod, phase, container, {"terminated": ended | times}, conditions=conditions, words=words)

    def _patch(
        self,
        pod: dict[str, Any],
        phase: str,
        container: dict[str, Any],
        state: dict[str, Any],
        *,
        conditions: Sequence[dict[str, str]] = (),
        words: Mapping[str, str] | None = None,
    ) -> None:
        """Reports the container's new state beside those of the others."""
        states = self._states.setdefault(pod["metadata"]["uid"], {})
        states[container["name"]] = state
        status: dict[str, Any] = {**(words or {}), "phase": phase, "conditions": list(conditions)}
        for kind, reported in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
            own = [item for item in stage_containers(pod) if item in pod["spec"].get(kind, [])]
            status[reported] = [_container_status(item, states.get(item["name"])) for item in own]
        self._patch_status(pod, status)

    def _patch_status(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        try:
            self._core.patch_namespaced_pod_status(
                pod["metadata"]["name"], self.namespace, {"status": status}, _request_timeout=10
            )
        except ApiException as error:
            if error.status != 404:  # deleted meanwhile
                raise


def stage_containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages' among the pod's containers, in the order in which the kubelet runs them."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return [item for item in containers if item["name"] in (*Stage, EARLIER_CONTAINER)]


def _container_status(container: dict[str, Any], state: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in (state or {}),
        "restartCount": 0,
        "state": state or {"waiting": {"reason": "PodInitializing"}},
    }


def _condition(kind: str, status: str, *, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": _now()}


def _now() -> str:
    return _rfc3339(datetime.now(UTC))


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
