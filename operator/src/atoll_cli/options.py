"""Options that several commands share, and the engine that they select: the local one or a cluster."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.param_types import InputPath
from atoll_contract.errors import SpecError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_OBJECT_STORE = "default"
max_invalid_option = click.option(
    "--max-invalid-percent",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Accept this share of bad labels (1 by default; fewer than 5 labels always pass).",
)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = InputPath()
signing_key_option = click.option(
    "--signing-key", type=_FILE, metavar="PEM", help="Sign the release (see atoll keygen)."
)


@dataclass(frozen=True)
class ClusterOptions:
    """The cluster and namespace that the user named; None means what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    all_namespaces: bool = False

    @property
    def is_given(self) -> bool:
        """Whether any of the options was given."""
        named = (self.namespace, self.context, self.kubeconfig)
        return self.all_namespaces or any(value is not None for value in named)


@dataclass(frozen=True)
class EngineOptions:
    """The options of commands that know both engines. `endpoint` is another address of the cluster's bucket."""

    store: Path | None = None
    cluster: ClusterOptions = ClusterOptions()
    endpoint: str | None = None
    object_store: str = DEFAULT_OBJECT_STORE

    def local_folder(self, *, by_namespace: bool = False) -> Path | None:
        """The folder of the local engine if the options select that; None for the cluster.

        The command line decides; then the variable ATOLL_STORE; then, except for `kubectl atoll`, a folder
        `atoll-store` in the current directory; otherwise it is the cluster. With `by_namespace` the command accepts -n
        together with --store, as a namespace within that store.

        Raises:
            SpecError: both engines are named.
        """
        cluster = replace(self.cluster, namespace=None) if by_namespace else self.cluster
        if self.store is not None and cluster.is_given:
            raise SpecError(
                "--store names the local engine, -n, -A, --context and --kubeconfig a cluster; give one of them"
            )
        if self.store is not None or self.cluster.is_given:
            return self.store
        if named := os.environ.get("ATOLL_STORE"):
            return Path(named)
        return DEFAULT_STORE if DEFAULT_STORE.is_dir() and not is_plugin() else None


def is_plugin() -> bool:
    """Whether kubectl started this process."""
    return "kubectl-atoll" in Path(sys.argv[0]).name


# In reverse: help shows the option that was added last first.
_CLUSTER = (
    click.option("--kubeconfig", metavar="FILE", help="The kubeconfig; by default that of kubectl."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("-n", "--namespace", metavar="NAME", help="Namespace; by default the context's."),
)
_ALL_NAMESPACES = click.option(
    "-A", "--all-namespaces", is_flag=True, help="List the cluster's objects of every namespace."
)
_LOCAL_STORE = click.option("--store", type=_FOLDER, metavar="DIR", help="Look into this folder, not at a cluster.")
_OBJECT_STORE = click.option(
    "--object-store", default=DEFAULT_OBJECT_STORE, show_default=True, help="The cluster's ObjectStore."
)


def cluster_options(function: F) -> Any:
    """`-n`, `--context` and `--kubeconfig`, given to the command as `cluster`."""

    @functools.wraps(function)
    def with_cluster(
        *args: Any, namespace: str | None, context: str | None, kubeconfig: str | None, **kwargs: Any
    ) -> Any:
        return function(*args, cluster=ClusterOptions(namespace, context, kubeconfig), **kwargs)

    return _add(_CLUSTER, with_cluster)


def engine_options(
    *, endpoint: bool = False, object_store: bool = False, all_namespaces: bool = False
) -> Callable[[F], Any]:
    """`--store` beside the cluster's options and, if asked for, `--endpoint`, `--object-store` and `-A`, given to the
    command as `engine`."""
    everywhere = all_namespaces

    def decorate(function: F) -> Any:
        @functools.wraps(function)
        def with_engine(
            *args: Any,
            store: Path | None,
            namespace: str | None,
            context: str | None,
            kubeconfig: str | None,
            endpoint: str | None = None,
            object_store: str = DEFAULT_OBJECT_STORE,
            all_namespaces: bool = False,
            **kwargs: Any,
        ) -> Any:
            if all_namespaces and namespace is not None:
                raise click.UsageError(f"-n {namespace} names one namespace, -A all; give one of them")
            cluster = ClusterOptions(namespace, context, kubeconfig, all_namespaces)
            return function(*args, engine=EngineOptions(store, cluster, endpoint, object_store), **kwargs)

        bucket = (*((_OBJECT_STORE,) if object_store else ()), *((endpoint_option,) if endpoint else ()))
        listed = (_ALL_NAMESPACES,) if everywhere else ()
        return _add((*bucket, *listed, *_CLUSTER, _LOCAL_STORE), with_engine)

    return decorate


def _add(options: tuple[Callable[[Any], Any], ...], function: Any) -> Any:
    return functools.reduce(lambda decorated, option: option(decorated), options, function)


def endpoint_option(function: F) -> F:
    """`--endpoint URL`."""
    return click.option(
        "--endpoint",
        metavar="URL",
        envvar="ATOLL_ENDPOINT",
        help="Another address of the bucket. A Service needs none: a port is forwarded.",
    )(function)


def store_option(function: F) -> F:
    """`--store DIR` of commands that know the local engine alone."""
    return click.option(
        "--store",
        type=_FOLDER,
        default=DEFAULT_STORE,
        show_default=True,
        envvar="ATOLL_STORE",
        help="Folder of the runs and, where the file names no ObjectStore, of the store.",
    )(function)


def uploads_option(function: F) -> F:
    """`--data` and `--weights`: what a command of the local engine puts into the store first."""
    weights = click.option(
        "--weights", multiple=True, type=_FILE, metavar="FILE", help="Put these start weights there, too."
    )
    return click.option(
        "--data",
        multiple=True,
        type=InputPath(folders=True),
        metavar="ARCHIVE",
        help="Put this archive into the store first; a folder is packed as a .tar.",
    )(weights(function))


def files_option(content: str) -> Callable[[F], Any]:
    """Files as arguments or with `-f`, given to the command as `paths`; the help says what `content` they have."""
    path = InputPath(folders=True, dash=True)
    text = f'File or folder with {content}, or "-"; also without -f, and several times.'

    def decorate(function: F) -> Any:
        @functools.wraps(function)
        def with_files(*args: Any, files: tuple[Path, ...], paths: tuple[Path, ...], **kwargs: Any) -> Any:
            if not files and not paths:
                context = click.get_current_context()
                name = "sweep.yaml" if context.info_name == "sweep" else "run.yaml"
                example = f"{context.command_path} {name}"
                raise click.UsageError(f"no FILE is named; write {example}, or - for standard input")
            return function(*args, paths=(*files, *paths), **kwargs)

        named = click.option("-f", "--filename", "paths", multiple=True, type=path, metavar="FILE", help=text)
        return click.argument("files", metavar="[FILE]...", nargs=-1, type=path)(named(with_files))

    return decorate


def require_empty(folder: Path) -> None:
    """Raises SpecError if the folder holds anything."""
    if folder.exists() and any(folder.iterdir()):
        raise SpecError(f"--to {folder}: the folder is not empty; name a new one")


def min_change_option(reference: str) -> Callable[[F], F]:
    """`--min-change`, in percent: how much an image has to differ from one that is the `reference`."""
    return click.option(
        "--min-change",
        type=click.FloatRange(0, 100),
        default=1.0,
        show_default=True,
        help=f"Drop what differs from {reference} in less than this percentage of the picture; 0 keeps all.",
    )
