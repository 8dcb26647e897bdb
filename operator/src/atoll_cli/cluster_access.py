"""Connects to a cluster with the user's kubeconfig and rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_cli.options import ClusterOptions
from atoll_contract.errors import SpecError
from atoll_operator.kube.objects import RUNS

if TYPE_CHECKING:
    from atoll_operator.kube.client import Cluster

Body = dict[str, Any]

TIMEOUT_SECONDS = 20.0
MAX_NAMES = 10


@dataclass(frozen=True)
class ClusterAccess:
    """A cluster, and the namespace that commands act in."""

    cluster: Cluster
    namespace: str

    def run(self, name: str) -> Body:
        """The TrainingRun.

        Raises:
            SpecError: there is none of this name.
            ClusterError: the API server does not answer, or does not allow it.
        """
        found = self.cluster.read(RUNS, self.namespace, name)
        if found is None:
            known = list_names([item["metadata"]["name"] for item in self.runs()])
            raise SpecError(
                f"there is no TrainingRun {name} in namespace {self.namespace}; known there: {known} "
                "(-n names another namespace)"
            )
        return found

    def runs(self) -> list[Body]:
        """Every TrainingRun of the namespace."""
        return self.cluster.list_all(RUNS, self.namespace)

    def patch_run(self, name: str, body: Body) -> Body:
        """The TrainingRun after a merge patch. Raises as `run` does."""
        patched = self.cluster.patch(RUNS, self.namespace, name, body)
        return self.run(name) if patched is None else patched


def connect(options: ClusterOptions) -> ClusterAccess:
    """The cluster that the options name. No request is made yet.

    Raises:
        ClusterError: there is no usable kubeconfig.
    """
    from atoll_operator.kube.client import connect_as_user

    cluster, namespace = connect_as_user(options.kubeconfig, options.context, timeout_seconds=TIMEOUT_SECONDS)
    return ClusterAccess(cluster, options.namespace or namespace)


def list_names(names: list[str]) -> str:
    """The first few names, and how many more there are; `none` for none."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES]) or 'none'}{more}"
