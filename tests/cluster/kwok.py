"""KWOK and a scheduler: a node that is none. Its containers run for a second and then end as their kind does.

Pods of Atoll's stages leave a result in the termination message, as the stage contract asks; every other pod just
ends well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import kubernetes.client

from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_INPUT, PublishSpec, Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from cluster.binaries import ensure
from cluster.controlplane import LOOPBACK, ControlPlane
from cluster.kubelet import succeed
from cluster.processes import ProcessGroup, free_port

Body = dict[str, Any]
# The admins of the control plane that these two programs are.
KWOK, SCHEDULER = "kwok", "scheduler"
NODE = "kwok"
RUN_MILLISECONDS = 1000
STAGE_LABEL = "atoll.dev/stage"
FOLLOWING_LABEL = "atoll.dev/following"
# The stage whose init container a pod has, and that of its container.
SHARED = {Stage.TRAIN: Stage.EXPORT, Stage.COMPILE: Stage.PUBLISH}
# What KWOK does side by side: its own 4 would be what is measured.
PARALLEL = 16
_ROOM = {"cpu": "1M", "memory": "1Pi", "ephemeral-storage": "1Pi", "pods": "1M"}
# A version that stands for the run's own; no other part of a result holds this number.
_VERSION = 918273645
_PLACEHOLDERS = {
    "the-namespace": "{{ .metadata.namespace }}",
    "the-run-uid": '{{ index .metadata.labels "atoll.dev/run-uid" }}',
    "the-pod-uid": "{{ .metadata.uid }}",
    "the-model": "{{ $input.publish.model }}",
    str(_VERSION): "{{ $input.publish.version }}",
}
_INPUT = (
    "{{ $input := dict }}{{ range (index .spec.containers 0).env }}"
    f'{{{{ if eq .name "{ENV_INPUT}" }}}}{{{{ $input = fromJson .value }}}}{{{{ end }}}}{{{{ end }}}}'
)


class Kwok:
    """KWOK, kube-scheduler and the node, for a control plane with the admins KWOK and SCHEDULER."""

    def __init__(self, plane: ControlPlane, api: kubernetes.client.ApiClient) -> None:
        self._plane = plane
        self._programs = {name: ensure(name) for name in ("kube-scheduler", "kwok")}
        self._core = kubernetes.client.CoreV1Api(api)
        self._group = ProcessGroup("kwok")

    def __enter__(self) -> Self:
        try:
            self._core.create_node(_node(), _request_timeout=10)
            # The API server taints new nodes; the controller that would take that back is not there.
            self._core.patch_node(NODE, {"spec": {"taints": None}}, _request_timeout=10)
            self._start_scheduler()
            self._start_kwok()
        except BaseException:
            self._group.close(kill=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.close(kill=True)

    @property
    def pids(self) -> list[int]:
        return [self._group.pid(name) for name in self._programs]

    def check(self) -> None:
        for name in self._programs:
            self._group.check(name)

    def log_tail(self, name: str) -> str:
        return self._group.log_tail(name)

    def _start_scheduler(self) -> None:
        command = [str(self._programs["kube-scheduler"]), f"--kubeconfig={self._plane.kubeconfig_of(SCHEDULER)}"]
        command += [f"--bind-address={LOOPBACK}", f"--secure-port={free_port()}", "--leader-elect=false"]
        command += [f"--cert-dir={self._group.folder}", "--kube-api-qps=500", "--kube-api-burst=1000"]
        self._group.start("kube-scheduler", command)

    def _start_kwok(self) -> None:
        config = self._group.folder / "kwok.yaml"
        config.write_text("\n---\n".join(json.dumps(item) for item in (_configuration(), *stages())), encoding="utf-8")
        command = [str(self._programs["kwok"]), f"--kubeconfig={self._plane.kubeconfig_of(KWOK)}"]
        command += [f"--config={config}", f"--manage-single-node={NODE}", "--node-lease-duration-seconds=0", "--v=WARN"]
        self._group.start("kwok", command)


def stages() -> list[Body]:
    """The life of the node and of a pod as KWOK's `Stage`s. A container runs, and a second later it has ended; where an
    init container comes first, a kubelet reports its start, its end, and then the start of the other."""
    shared, alone = _exists(FOLLOWING_LABEL), _exists(FOLLOWING_LABEL, "DoesNotExist")
    plain = _exists(STAGE_LABEL, "DoesNotExist")
    starts = [
        _stage("run", "Pending", _running(), only=[alone]),
        _stage("init", "Pending", _initializing(), only=[shared, _init("running", "DoesNotExist"), NOT_ENDED]),
        _stage("run-after-init", "Pending", _running(), only=[shared, _init("terminated")]),
    ]
    ends = [
        _stage("end", "Running", _ended(), only=[plain], delayed=True),
        *(_stage(f"end-{item}", "Running", _end_of(item), label=item, only=[alone], delayed=True) for item in Stage),
    ]
    for first, last in SHARED.items():
        in_init = [shared, _init("running")]
        ends.append(_stage(f"init-{first}", "Pending", _end_of_init(first), label=first, only=in_init, delayed=True))
        ends.append(_stage(f"end-{first}-{last}", "Running", _end_of(last), label=first, only=[shared], delayed=True))
    return [_node_stage(), *starts, *ends]


def _exists(label: str, operator: str = "Exists") -> Body:
    return {"key": f'.metadata.labels["{label}"]', "operator": operator}


def _init(state: str, operator: str = "Exists") -> Body:
    """Whether the init container is in this state."""
    return {"key": f".status.initContainerStatuses.[].state.{state}.startedAt", "operator": operator}


NOT_ENDED = _init("terminated", "DoesNotExist")


def _end_of(stage: Stage) -> str:
    message = _message(stage)
    # KWOK reads the input for each pod that ends: only where the message tells of it.
    return _ended(message, before=_INPUT if "$input" in message else "")


def _end_of_init(stage: Stage) -> str:
    return "{{ $now := Now }}\nphase: Pending\n" + _containers("false", _terminated(_message(stage)), init=True)


def _message(stage: Stage) -> str:
    """The termination message of the stage, with KWOK's templates where it tells of this run and pod."""
    publish = PublishSpec("the-model", "stable", _VERSION) if stage is Stage.PUBLISH else None
    run = RunRef("the-namespace", "the-run", "the-run-uid")
    given = StageInput(stage, 1, run, StoreSpec(StoreType.DIRECTORY, path="none"), publish=publish)
    text = succeed(given, "the-pod-uid").message
    for word, template in _PLACEHOLDERS.items():
        text = text.replace(word, template)
    return text


def _stage(
    name: str,
    phase: str,
    template: str,
    *,
    label: str = "",
    only: Sequence[Mapping[str, Any]] = (),
    delayed: bool = False,
) -> Body:
    expressions = [
        {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
        {"key": ".status.phase", "operator": "In", "values": [phase]},
        *only,
    ]
    selector: Body = {"matchExpressions": expressions} | ({"matchLabels": {STAGE_LABEL: label}} if label else {})
    spec: Body = {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": selector,
        "next": {"statusTemplate": template},
    }
    if delayed:
        spec["delay"] = {"durationMilliseconds": RUN_MILLISECONDS}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _node_stage() -> Body:
    """KWOK serves no pods where it has nothing to do for nodes; this one is done once."""
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    spec = {
        "resourceRef": {"apiGroup": "v1", "kind": "Node"},
        "selector": {"matchExpressions": [{"key": ready, "operator": "NotIn", "values": ["True"]}]},
        "next": {"statusTemplate": "conditions: [{type: Ready, status: 'True', reason: KubeletReady}]"},
    }
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": "node"}, "spec": spec}


def _running() -> str:
    conditions = "".join(
        f'- {{type: {kind}, status: "True", lastTransitionTime: {{{{ $now | Quote }}}}}}\n'
        for kind in ("Initialized", "Ready", "ContainersReady")
    )
    state = "running: {startedAt: {{ $now | Quote }}}"
    return f"{{{{ $now := Now }}}}\nphase: Running\nstartTime: {{{{ $now | Quote }}}}\nconditions:\n{conditions}" + (
        _containers("true", state)
    )


def _initializing() -> str:
    conditions = "".join(
        f'- {{type: {kind}, status: "False", reason: {reason}, lastTransitionTime: {{{{ $now | Quote }}}}}}\n'
        for kind, reason in (
            ("Initialized", "ContainersNotInitialized"),
            ("Ready", "ContainersNotReady"),
            ("ContainersReady", "ContainersNotReady"),
        )
    )
    head = f"{{{{ $now := Now }}}}\nphase: Pending\nstartTime: {{{{ $now | Quote }}}}\nconditions:\n{conditions}"
    running = _containers("false", "running: {startedAt: {{ $now | Quote }}}", init=True)
    return head + running + _containers("false", "waiting: {reason: PodInitializing}")


def _ended(message: str = "", *, before: str = "") -> str:
    """`message` is JSON, which has no single quotes."""
    return f"{{{{ $now := Now }}}}{before}\nphase: Succeeded\n" + _containers("false", _terminated(message))


def _terminated(message: str) -> str:
    return (
        "terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}, "
        f"message: '{message}'}}"
    )


def _containers(ready: str, state: str, *, init: bool = False) -> str:
    # `$` is the pod; inside `range` the dot is the container.
    state = state.replace("{{ .metadata", "{{ $.metadata").replace("index .metadata", "index $.metadata")
    spec, statuses = ("initContainers", "initContainerStatuses") if init else ("containers", "containerStatuses")
    return (
        f"{statuses}:\n{{{{ range .spec.{spec} }}}}\n- name: {{{{ .name | Quote }}}}\n"
        f"  image: {{{{ .image | Quote }}}}\n  ready: {ready}\n  restartCount: 0\n"
        f"  state:\n    {state}\n{{{{ end }}}}\n"
    )


def _configuration() -> Body:
    # With a file of options, KWOK has no defaults for the others.
    counts = (
        "podPlayStageParallelism",
        "nodePlayStageParallelism",
        "nodeLeaseParallelism",
        "podsOnNodeSyncParallelism",
    )
    options = dict.fromkeys(counts, PARALLEL) | {"cidr": "10.0.0.1/24", "nodeIP": "10.0.0.1"}
    return {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options}


def _node() -> Body:
    labels = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE}
    return {
        "metadata": {"name": NODE, "labels": labels},
        "status": {"capacity": _ROOM, "allocatable": _ROOM},
    }
