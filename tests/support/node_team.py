"""A team's namespace on the node cluster: the bucket that another namespace has, and a profile of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from support.node_cluster import NodeCluster


def copy_secret(cluster: NodeCluster, name: str, *, home: str, namespace: str) -> None:
    """A pod reads Secrets of its own namespace alone."""
    data = cluster.get("secret", name, namespace=home)["data"]
    copy = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(copy))


@dataclass(frozen=True)
class Team:
    """`namespace` works with the bundled store of the chart in `home`."""

    cluster: NodeCluster
    home: str
    namespace: str

    def prepare(self) -> None:
        """ObjectStore and Secret, as an admin makes them."""
        store = self.cluster.get("objectstore", "default", namespace=self.home)
        copy_secret(
            self.cluster, store["spec"]["credentials"]["secretRef"]["name"], home=self.home, namespace=self.namespace
        )
        self.store("default", store["spec"])

    def store(self, name: str, spec: dict[str, Any]) -> None:
        self._apply({"kind": "ObjectStore", "metadata": {"name": name}, "spec": spec})

    def profile(self, name: str, **spec: Any) -> None:
        """The quick start's profile under another name, with parts of it replaced."""
        known = self.cluster.get("trainingprofile", "default", namespace=self.home)["spec"]
        self._apply({"kind": "TrainingProfile", "metadata": {"name": name}, "spec": known | spec})

    def start(self, *runs: dict[str, Any]) -> None:
        """All of them in one `kubectl apply`."""
        items = [{"apiVersion": "atoll.dev/v1alpha1", "kind": "TrainingRun"} | run for run in runs]
        self._apply({"kind": "List", "items": items}, version="v1")

    def runs(self) -> dict[str, dict[str, Any]]:
        """Every run's object by name."""
        return {item["metadata"]["name"]: item for item in self.items("trun")}

    def items(self, kinds: str, *flags: str) -> list[dict[str, Any]]:
        text = self.cluster.kubectl("get", kinds, *flags, "-n", self.namespace, "-o", "json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def _apply(self, document: dict[str, Any], *, version: str = "atoll.dev/v1alpha1") -> None:
        text = json.dumps({"apiVersion": version} | document)
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=text)
