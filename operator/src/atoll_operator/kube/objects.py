"""The kinds that Atoll reads and writes, and their objects as the views that `decide` takes. Pure.

Only fields that Kubernetes itself writes are read here; those of a TrainingRun are read in `lifecycle/inputs.py`.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from atoll_contract.document import rfc3339
from atoll_contract.errors import bounded, linked
from atoll_contract.stage import Stage
from atoll_contract.stage_result import last_progress
from atoll_operator.api.status import parse_time
from atoll_operator.jobs.manifest import EARLIER_CONTAINER
from atoll_operator.lifecycle.model import AttemptNumber, JobState, JobView, PodPhase, PodView
from atoll_operator.lifecycle.plan import RunEvent

Body = Mapping[str, Any]

# The source that Events name.
COMPONENT = "atoll-operator"
# The API's limit for the message of an Event.
MAX_EVENT_MESSAGE = 1024
# A pod of a lost node stays in deletion for ever; a kubelet that is alive removes it soon after the grace period.
DELETION_OVERDUE = timedelta(seconds=60)
_TIMESTAMPS = frozenset({"creationTimestamp", "deletionTimestamp"})
_JOB_METADATA = _TIMESTAMPS | {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"}
# The Job controller gives it to each pod of an Indexed Job.
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_STAGE_LABEL = "atoll.dev/stage"
_NOT_STARTED = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class Resource:
    """A kind as a URL names it. `path` is `api/v1` or `apis/<group>/<version>`."""

    path: str
    plural: str

    def url(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Returns the path of one object, or of the collection."""
        parts = [self.path]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="/") for part in parts)


ATOLL = "apis/atoll.dev/v1alpha1"
RUNS = Resource(ATOLL, "trainingruns")
SWEEPS = Resource(ATOLL, "trainingsweeps")
STORES = Resource(ATOLL, "objectstores")
PROFILES = Resource(ATOLL, "trainingprofiles")
RELEASES = Resource(ATOLL, "modelreleases")
JOBS = Resource("apis/batch/v1", "jobs")
PODS = Resource("api/v1", "pods")
SERVICES = Resource("api/v1", "services")
NODES = Resource("api/v1", "nodes")
EVENTS = Resource("api/v1", "events")
REVISIONS = Resource("apis/apps/v1", "controllerrevisions")
LEASES = Resource("apis/coordination.k8s.io/v1", "leases")
NETWORK_POLICIES = Resource("apis/networking.k8s.io/v1", "networkpolicies")


@dataclass(frozen=True)
class PodDetails:
    """What other objects say about a pod: its newest Warning event, why its node is lost, and the log of the container
    that runs."""

    warning: str = ""
    node_lost: str = ""
    log: str = ""


def job_view(
    job: Body, *, stage: Stage, attempt: int, following: tuple[AttemptNumber, ...] = (), create_error: str = ""
) -> JobView:
    """Returns the view of the Job of this stage and attempt, and of those that follow in its pod."""
    metadata, status = job["metadata"], job.get("status") or {}
    condition = _end(status)
    if condition is not None:
        state = JobState.SUCCEEDED if condition["type"] == "Complete" else JobState.FAILED
    else:
        state = JobState.SUSPENDED if (job.get("spec") or {}).get("suspend") else JobState.ACTIVE
    failed = condition if state is JobState.FAILED and condition else {}
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner_uid(job),
        stage=stage,
        attempt=attempt,
        state=state,
        created=parse_time(metadata["creationTimestamp"]),
        finished=_time((condition or {}).get("lastTransitionTime")),
        failure_reason=failed.get("reason", ""),
        failure_message=failed.get("message", ""),
        create_error=create_error,
        deleting="deletionTimestamp" in metadata,
        following=following,
    )


def bare_job(job: Body) -> dict[str, Any]:
    """Returns the part of a Job that `job_view` needs: a tenth of it, as thousands are kept in memory."""
    bare: dict[str, Any] = {"metadata": {key: value for key, value in job["metadata"].items() if key in _JOB_METADATA}}
    if (job.get("spec") or {}).get("suspend"):
        bare["spec"] = {"suspend": True}
    if end := _end(job.get("status") or {}):
        bare["status"] = {"conditions": [end]}
    return bare


def owner_uid(body: Body) -> str:
    """Returns the UID of the TrainingRun that controls the object; empty if none does."""
    return str(controller_of(body, "TrainingRun").get("uid", ""))


def controller_of(body: Body, kind: str) -> Mapping[str, Any]:
    """Returns the reference to the object of this kind that controls `body`; an empty one if none does."""
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller") and owner.get("kind") == kind), {})


def resource_version(body: Body) -> int:
    """Versions of one resource can be compared as numbers (Kubernetes ≥ 1.35 promises what etcd always did)."""
    version = str(body["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


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
    """Returns the views of a pod of the Job named `job`, one for each of its stages; none of a shard of a conversion
    for which another speaks. Of the workers of a training each has a part that the others lack."""
    if not speaks_for_job(pod) and worker_index(pod) is None:
        return ()
    return tuple(_pod_view(pod, container, job, details or PodDetails()) for container in stage_containers(pod))


def _pod_view(pod: Body, container: StageContainer, job: str, details: PodDetails) -> PodView:
    metadata, status = pod["metadata"], pod.get("status") or {}
    waiting, ended = container.state.get("waiting") or {}, container.state.get("terminated") or {}
    disruption = _condition(status, "DisruptionTarget")
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
        started=_time((container.state.get("running") or ended).get("startedAt")),
        finished=_time(ended.get("finishedAt")),
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
        worker=worker_index(pod),
        kept_by_another=kept,
        progress=last_progress(details.log) if details.log and "running" in container.state else None,
    )


def worker_index(pod: Body) -> int | None:
    """Returns which of several workers of a training the pod is; None of another pod."""
    labels = pod["metadata"].get("labels") or {}
    text = labels.get(_INDEX_LABEL, "") if labels.get(_STAGE_LABEL) == Stage.TRAIN else ""
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
    deletion = _time(metadata.get("deletionTimestamp"))
    if deletion is not None:
        # The timestamp is the end of the grace period, not its beginning.
        return now - deletion > DELETION_OVERDUE
    running = status.get("phase") == "Running" and bool(running_container(pod))
    return running and _condition(status, "Ready").get("status") == "False"


def lost_node(name: str, node: Body | None) -> str:
    """Returns why a node counts as lost; empty if its kubelet answers."""
    if node is None:
        return f"node {name} is gone"
    ready = _condition(node.get("status") or {}, "Ready")
    if ready.get("status") != "Unknown":
        return ""
    return f"node {name}: {ready.get('message', 'its kubelet does not answer')} since {ready.get('lastTransitionTime')}"


def event_manifest(
    run: dict[str, Any], event: RunEvent, *, now: datetime, instance: str, docs_url: str
) -> dict[str, Any]:
    """Returns the Event object for `event` on the TrainingRun `run`. `instance` names the operator's pod.

    Pages that the message names become URLs of the site `docs_url`; they stay paths if it is empty.
    """
    metadata, time = run["metadata"], rfc3339(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": run["apiVersion"],
            "kind": run["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event.type.value,
        "reason": event.reason,
        "message": bounded(linked(event.message, docs_url), MAX_EVENT_MESSAGE),
        "source": {"component": COMPONENT, "host": instance},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def json_object(data: bytes) -> dict[str, Any]:
    """Returns the JSON object in `data`; an empty one where there is none."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _end(job_status: Body) -> dict[str, Any] | None:
    """Returns the condition that ends a Job. `SuccessCriteriaMet` and `FailureTarget` come before the end."""
    for condition in job_status.get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return dict(condition)
    return None


def _condition(status: Body, kind: str) -> dict[str, Any]:
    found = (item for item in status.get("conditions") or [] if item["type"] == kind)
    return dict(next(found, {}))


def _unschedulable(status: Body) -> str:
    scheduled = _condition(status, "PodScheduled")
    waits = scheduled.get("status") == "False" and scheduled.get("reason") != "SchedulingGated"
    return str(scheduled.get("message", "")) if waits else ""


def _event_time(event: Body) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(time) for time in times if time), event["metadata"].get("creationTimestamp", ""))


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None
