"""The options by which commands find a cluster, and which engine is meant where a command knows both."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atoll_contract.errors import SpecError
from atoll_operator.local.folders import DEFAULT_STORE

if TYPE_CHECKING:
    from atoll_operator.kube.cluster import Body, Cluster

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT_SECONDS = 20.0
_NAMES_TOLD = 10


@dataclass(frozen=True)
class Where:
    """Which cluster and namespace the user asked for; what is None comes from the kubeconfig."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    @property
    def is_asked(self) -> bool:
        """Whether any of the options was given."""
        return any(value is not None for value in (self.namespace, self.context, self.kubeconfig))

    def connect(self) -> Access:
        """Raises ClusterError where there is no usable kubeconfig. No request is made yet."""
        from atoll_operator.kube.connection import connect_as_user

        cluster, namespace = connect_as_user(self.kubeconfig, self.context, timeout_seconds=TIMEOUT_SECONDS)
        return Access(cluster, self.namespace or namespace)


@dataclass(frozen=True)
class Access:
    """A cluster as the user may use it, and the namespace that commands act in."""

    cluster: Cluster
    namespace: str

    def run(self, name: str) -> Body:
        """The TrainingRun.

        Raises:
            SpecError: there is none of this name.
            ClusterError: the API server does not answer, or does not allow it.
        """
        from atoll_operator.kube.resources import RUNS

        found = self.cluster.read(RUNS, self.namespace, name)
        if found is None:
            raise SpecError(f"there is no TrainingRun {name} in namespace {self.namespace}; {self._known_runs()}")
        return found

    def runs(self) -> list[Body]:
        """Every TrainingRun of the namespace."""
        from atoll_operator.kube.resources import RUNS

        return self.cluster.list_all(RUNS, self.namespace)

    def patch_run(self, name: str, body: Body) -> Body:
        """The TrainingRun after a merge patch. Raises as `run` does."""
        from atoll_operator.kube.resources import RUNS

        patched = self.cluster.patch(RUNS, self.namespace, name, body)
        return self.run(name) if patched is None else patched

    def _known_runs(self) -> str:
        names = [item["metadata"]["name"] for item in self.runs()]
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        return f"known there: {', '.join(names[:_NAMES_TOLD]) or 'none'}{more} (-n names another namespace)"


def cluster_options(function: F) -> Any:
    """`-n`, `--context` and `--kubeconfig`, given to the command as `where`."""

    @functools.wraps(function)
    def with_where(
        *args: Any, namespace: str | None, context: str | None, kubeconfig: str | None, **kwargs: Any
    ) -> Any:
        return function(*args, where=Where(namespace, context, kubeconfig), **kwargs)

    for option in (
        click.option("--kubeconfig", metavar="FILE", help="The kubeconfig; by default that of kubectl."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace; by default the context's."),
    ):
        with_where = option(with_where)
    return with_where


def either_options(function: F) -> Any:
    """`--store` beside the cluster's options, for commands that know both engines; see `local_folder`."""
    store = click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder of the local engine: look there and not at a cluster.",
    )
    return store(cluster_options(function))


def local_folder(store: Path | None, where: Where, *, by_namespace: bool = False) -> Path | None:
    """The folder of the local engine where that is meant, None for the cluster.

    What is said on the command line decides; then the variable ATOLL_STORE; then, but for `kubectl atoll`, a folder
    `atoll-store` in the current directory; else it is the cluster. `by_namespace`: beside --store the command takes
    -n as a namespace within that store.

    Raises:
        SpecError: both are named.
    """
    other = replace(where, namespace=None) if by_namespace else where
    if store is not None and other.is_asked:
        raise SpecError("--store names the local engine, -n, --context and --kubeconfig a cluster; give one of them")
    if store is not None or where.is_asked:
        return store
    if named := os.environ.get("ATOLL_STORE"):
        return Path(named)
    return DEFAULT_STORE if DEFAULT_STORE.is_dir() and not is_plugin() else None


def is_plugin() -> bool:
    """Whether kubectl started this process."""
    return "kubectl-atoll" in Path(sys.argv[0]).name
