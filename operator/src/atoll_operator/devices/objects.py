"""The EdgeDevices of one namespace that this process created. It reads, changes and deletes no others."""

import logging
from typing import Any

from atoll_operator.api.status_codec import merge_patch
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import AlreadyExists
from atoll_operator.kube.objects import ATOLL, Resource

logger = logging.getLogger(__name__)

Body = dict[str, Any]

DEVICES = Resource(ATOLL, "edgedevices")

# Names the ObjectStore whose reports the object shows, and so the process that created it.
OWNER_LABEL = "atoll.dev/mirrored-from"


class NotOwned(Exception):
    """The name is taken by an EdgeDevice that this process did not create."""


class Devices:
    """Reads and writes the EdgeDevices. Every method raises ClusterError."""

    def __init__(self, cluster: Cluster, *, namespace: str, owner: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._owner = owner

    def own(self) -> dict[str, Body]:
        """The EdgeDevices with this process' label, by name."""
        items = self._cluster.list_all(DEVICES, self._namespace, labels=f"{OWNER_LABEL}={self._owner}")
        return {item["metadata"]["name"]: item for item in items}

    def with_spec(self, name: str, known: Body | None, spec: Body) -> Body:
        """The object with this spec, created or changed where necessary. Raises NotOwned."""
        if known is None:
            return self._create(name, spec)
        if known["spec"] == spec:
            return known
        version = known["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        # None: it was deleted since it was listed; the next reconcile creates it again.
        return self._cluster.patch(DEVICES, self._namespace, name, body) or known

    def write_status(self, known: Body, status: Body) -> bool:
        """Writes what differs, and returns whether anything did. A newer version of the object is a Conflict."""
        changes = merge_patch(known.get("status") or {}, status)
        if not changes:
            return False
        metadata = known["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": changes}
        self._cluster.patch_status(DEVICES, self._namespace, metadata["name"], body)
        return True

    def delete(self, known: Body) -> None:
        metadata = known["metadata"]
        self._cluster.delete(DEVICES, self._namespace, metadata["name"], uid=metadata["uid"])

    def _create(self, name: str, spec: Body) -> Body:
        labels = {OWNER_LABEL: self._owner, "app.kubernetes.io/part-of": "atoll"}
        body = {
            "apiVersion": ATOLL.removeprefix("apis/"),
            "kind": "EdgeDevice",
            "metadata": {"name": name, "namespace": self._namespace, "labels": labels},
            "spec": spec,
        }
        try:
            return self._cluster.create(DEVICES, self._namespace, body)
        except AlreadyExists:
            raise NotOwned(f"there is an EdgeDevice {name} that lacks the label {OWNER_LABEL}={self._owner}") from None
