"""The kinds that Atoll reads and writes, the view of a Job, and what other objects have in common. Pure.

Only fields that Kubernetes itself writes are read here; those of a TrainingRun are read in `lifecycle/inputs.py`.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from atoll_contract.document import rfc3339
from atoll_contract.errors import bounded, linked
from atoll_contract.stage import Stage
from atoll_operator.api.status import parse_time
from atoll_operator.lifecycle.model import AttemptNumber, JobState, JobView
from atoll_operator.lifecycle.plan import RunEvent

Body = Mapping[str, Any]

# The source that Events name.
COMPONENT = "atoll-operator"
# The API's limit for the message of an Event.
MAX_EVENT_MESSAGE = 1024
_TIMESTAMPS = frozenset({"creationTimestamp", "deletionTimestamp"})
_JOB_METADATA = _TIMESTAMPS | {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"}


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
# Kueue's; each of its releases serves at least one of these versions.
WORKLOADS = tuple(Resource(f"apis/kueue.x-k8s.io/{version}", "workloads") for version in ("v1beta2", "v1beta1"))
# Kueue gives it to the Workload of a Job.
WORKLOAD_JOB_LABEL = "kueue.x-k8s.io/job-uid"


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
        finished=time_of((condition or {}).get("lastTransitionTime")),
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


def queue_message(workload: Body) -> str:
    """Returns why Kueue holds the Job of this Workload; empty while it says nothing."""
    status, queue = workload.get("status") or {}, (workload.get("spec") or {}).get("queueName", "")
    evicted, quota = condition_of(status, "Evicted"), condition_of(status, "QuotaReserved")
    if evicted.get("status") == "True":
        return f"was taken out of queue {queue} ({evicted['reason']}): {evicted['message']}"
    if quota.get("status") == "False":
        return f"waits in queue {queue}: {quota['message']}"
    return ""


def condition_of(status: Body, kind: str) -> dict[str, Any]:
    """Returns the condition of this type; an empty one where the status has none."""
    found = (item for item in status.get("conditions") or [] if item["type"] == kind)
    return dict(next(found, {}))


def time_of(text: str | None) -> datetime | None:
    """Returns the time in a field that may be missing."""
    return parse_time(text) if text else None
