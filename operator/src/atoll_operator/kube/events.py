"""Kubernetes Events on a run: one for each transition, as `kubectl describe trun` shows them. Pure."""

import secrets
from datetime import datetime
from typing import Any

from atoll_contract.errors import bounded
from atoll_operator.plan import RunEvent
from atoll_operator.status import rfc3339

COMPONENT = "atoll-operator"
# The API's own limit.
MAX_EVENT_MESSAGE = 1024


def event_manifest(run: dict[str, Any], event: RunEvent, *, now: datetime, instance: str) -> dict[str, Any]:
    """The Event object for `event` on the TrainingRun `run`; `instance` names the operator's pod."""
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
        "message": bounded(event.message, MAX_EVENT_MESSAGE),
        "source": {"component": COMPONENT, "host": instance},
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
