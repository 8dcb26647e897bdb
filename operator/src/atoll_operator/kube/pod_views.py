"""The views of a Job's pods, from their objects, their events and their nodes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from atoll_contract.stage import Stage
from atoll_contract.stage_result import last_progress
from atoll_operator.api.status import parse_time
from atoll_operator.jobs.manifest import EARLIER_CONTAINER
from atoll_operator.kube.objects import Body, condition_of, time_of
from atoll_operator.lifecycle.model import PodPhase, PodView

# A pod of a lost node stays in deletion for ever; a kubelet that is alive removes it soon after the grace period.
DELETION_OVERDUE = timedelta(seconds=60)
# The Job controller gives it to each pod of an Indexed Job.
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_NOT_STARTED = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class PodDetails:
    """What other objects say about a pod: its newest Warning event, why its node is lost, and the log of the container
    that runs."""

    warning: str = ""
    node_lost: str = ""
    log: str = ""


@dataclass(frozen=True)
class StageContainer:
    """A stage's container in a pod as the kubelet reports it. `stage` is None for the one of an earlier version; only
    the pod's last stage decides, together with containers that others added, how the pod goes on."""

    name: str
    stage: Stage | None
    state: Body
    is_last: bool


def stage_containers(pod: Body) -> list[StageContainer]:
    """Returns the containers of the pod's stages in their order, without those that others added."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    found = []
    for kind, reported in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        states = {item["name"]: item.get("state") or {} for item in status.get(reported) or []}
        for name in (item["name"] for item in spec.get(kind) or []):
            if name in tuple(Stage) or name == EARLIER_CONTAINER:
                stage = Stage(name) if name in tuple(Stage) else None
                found.append(StageContainer(name, stage, states.get(name, {}), is_last=kind == "containers"))
    return found


def running_container(pod: Body) -> str:
    """Returns the name of the stage's container that runs; empty if none does."""
    return next((item.name for item in stage_containers(pod) if "running" in item.state), "")


def speaks_for_job(pod: Body) -> bool:
    """Returns whether a pod is the only one of its Job, or index 0 of several, which speaks for all."""
    return str((pod["metadata"].get("labels") or {}).get(_INDEX_LABEL, "0")) == "0"


def pod_views(pod: Body, *, job: str, details: PodDetails | None = None) -> tuple[PodView, ...]:
    """Returns the views of a pod of the Job named `job`, one for each of its stages."""
    return tuple(_pod_view(pod, container, job, details or PodDetails()) for container in stage_containers(pod))


def _pod_view(pod: Body, container: StageContainer, job: str, details: PodDetails) -> PodView:
    metadata, status = pod["metadata"], pod.get("status") or {}
    waiting, ended = container.state.get("waiting") or {}, container.state.get("terminated") or {}
    disruption = condition_of(status, "DisruptionTarget")
    phase = _phase(container, status.get("phase", ""))
    # What happens to the pod afterwards does not concern a stage that has handed on to the next.
    is_over = not container.is_last and phase is PodPhase.SUCCEEDED
    kept = container.is_last and bool(ended) and phase is PodPhase.RUNNING and len(pod["spec"]["containers"]) > 1
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        job=job,
        phase=phase,
        created=parse_time(metadata["creationTimestamp"]),
        stage=container.stage,
        started=time_of((container.state.get("running") or ended).get("startedAt")),
        finished=time_of(ended.get("finishedAt")),
        deleting="deletionTimestamp" in metadata,
        reason="" if is_over else status.get("reason", ""),
        message="" if is_over else status.get("message", ""),
        unschedulable=_unschedulable(status),
        waiting_reason="" if waiting.get("reason", "") in _NOT_STARTED else waiting["reason"],
        waiting_message=waiting.get("message", ""),
        warning=details.warning,
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        termination_message=ended.get("message", ""),
        disruption=(disruption.get("message") or "disrupted") if disruption.get("status") == "True" else "",
        node_lost=details.node_lost,
        index=pod_index(pod),
        kept_by_another=kept,
        progress=last_progress(details.log) if details.log and "running" in container.state else None,
    )


def pod_index(pod: Body) -> int | None:
    """Returns which pod of an Indexed Job it is; None of a pod that is the only one of its Job."""
    text = (pod["metadata"].get("labels") or {}).get(_INDEX_LABEL, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _phase(container: StageContainer, pod_phase: str) -> PodPhase:
    """Returns the phase that the pod would have if this container were its only one."""
    ended = container.state.get("terminated")
    if not container.is_last and ended:
        return PodPhase.SUCCEEDED if ended.get("exitCode") == 0 else PodPhase.FAILED
    if not container.is_last and "running" in container.state and pod_phase == PodPhase.PENDING:
        return PodPhase.RUNNING
    return PodPhase(pod_phase) if pod_phase in tuple(PodPhase) else PodPhase.UNKNOWN


def newest_warning(events: Iterable[Body], *, reason: str = "") -> str:
    """Returns `reason: message` of the newest Warning event (of this reason); empty if there is none."""
    warnings = [event for event in events if event.get("type") == "Warning" and reason in ("", event.get("reason", ""))]
    newest = max(warnings, key=_event_time, default=None)
    return "" if newest is None else f"{newest.get('reason', '')}: {newest.get('message', '')}"


def may_be_lost(pod: Body, *, now: datetime) -> bool:
    """Returns whether the pod's node should be read: the pod is overdue in deletion, or runs and is not ready."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    deletion = time_of(metadata.get("deletionTimestamp"))
    if deletion is not None:
        # The timestamp is the end of the grace period, not its beginning.
        return now - deletion > DELETION_OVERDUE
    running = status.get("phase") == "Running" and bool(running_container(pod))
    return running and condition_of(status, "Ready").get("status") == "False"


def lost_node(name: str, node: Body | None) -> str:
    """Returns why a node counts as lost; empty if its kubelet answers."""
    if node is None:
        return f"node {name} is gone"
    ready = condition_of(node.get("status") or {}, "Ready")
    if ready.get("status") != "Unknown":
        return ""
    return f"node {name}: {ready.get('message', 'its kubelet does not answer')} since {ready.get('lastTransitionTime')}"


def _unschedulable(status: Body) -> str:
    scheduled = condition_of(status, "PodScheduled")
    waits = scheduled.get("status") == "False" and scheduled.get("reason") != "SchedulingGated"
    return str(scheduled.get("message", "")) if waits else ""


def _event_time(event: Body) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(time) for time in times if time), event["metadata"].get("creationTimestamp", ""))
