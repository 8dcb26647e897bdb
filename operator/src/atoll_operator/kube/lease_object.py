"""The Lease as an object in the cluster."""

from typing import Any

from atoll_operator.kube.cluster import Cluster

Body = dict[str, Any]


class LeaseObject:
    """As `lease.LeaseStore` wants it."""

    def __init__(self, cluster: Cluster, *, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    def read_lease(self) -> Body | None:
        return self._cluster.read_lease(self._namespace, self._name)

    def create_lease(self, spec: Body) -> Body:
        metadata = {"name": self._name, "namespace": self._namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        return self._cluster.write_lease(self._namespace, lease)

    def replace_lease(self, lease: Body) -> Body:
        return self._cluster.write_lease(self._namespace, lease)
