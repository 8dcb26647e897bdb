"""Connects to a cluster with the user's kubeconfig and rights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import ClusterOptions, EngineOptions, is_plugin
from atoll_contract.errors import SpecError
from atoll_operator.kube.errors import ClusterError
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

    @property
    def location(self) -> str:
        """Where the runs are, for messages."""
        return f"namespace {self.namespace}"

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


class NoEngine(SpecError):
    """The command serves both engines, and neither a local store nor a cluster is there or named."""


def connect_engine(engine: EngineOptions) -> ClusterAccess:
    """The cluster of a command that serves both engines, for options that select no local folder.

    Raises:
        NoEngine: the user named no cluster, and this machine has none configured.
        ClusterError: the user named one, and there is no usable kubeconfig.
    """
    try:
        return connect(engine.cluster)
    except ClusterError:
        if engine.cluster.is_given or is_plugin():
            raise
        raise NoEngine(
            f"there is no {DEFAULT_STORE} in {Path.cwd()}; change to the folder that has one, name it with "
            "--store DIR, or name a cluster with -n NAMESPACE"
        ) from None


def list_names(names: list[str]) -> str:
    """The first few names, and how many more there are; `none` for none."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES]) or 'none'}{more}"
