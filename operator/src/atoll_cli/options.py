"""The options by which commands find a cluster, and which engine is meant where a command knows both."""

from __future__ import annotations

import datetime
import functools
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atoll_cli.local.state import DEFAULT_STORE, RunFolder, known_runs
from atoll_contract.errors import SpecError
from atoll_contract.stage import StoreSpec
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import Store
from atoll_operator.api.manifests import read_files
from atoll_operator.api.parse import object_store
from atoll_operator.jobs.stage_input import store_spec

if TYPE_CHECKING:
    from atoll_operator.kube.client import Body, Cluster


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
        from atoll_operator.kube.client import connect_as_user

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
        from atoll_operator.kube.objects import RUNS

        found = self.cluster.read(RUNS, self.namespace, name)
        if found is None:
            raise SpecError(f"there is no TrainingRun {name} in namespace {self.namespace}; {self._known_runs()}")
        return found

    def runs(self) -> list[Body]:
        """Every TrainingRun of the namespace."""
        from atoll_operator.kube.objects import RUNS

        return self.cluster.list_all(RUNS, self.namespace)

    def patch_run(self, name: str, body: Body) -> Body:
        """The TrainingRun after a merge patch. Raises as `run` does."""
        from atoll_operator.kube.objects import RUNS

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


F_local_store = TypeVar("F_local_store", bound=Callable[..., Any])


def store_option(function: F_local_store) -> F_local_store:
    """`--store DIR`."""
    return click.option(
        "--store",
        "store",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_STORE,
        show_default=True,
        envvar="ATOLL_STORE",
        help="Folder of the local engine: its state and, where the file names no ObjectStore, the store itself.",
    )(function)


def named_run(store: Path, name: str) -> RunFolder:
    """The folder of a local run.

    Raises:
        SpecError: there is none of this name.
    """
    runs = known_runs(store.resolve())
    found = [folder for folder in runs if folder.name == name]
    if not found:
        known = ", ".join(folder.name for folder in runs) or "none"
        raise SpecError(f"there is no run {name} in {store.resolve()}; known there: {known}")
    return found[0]


def opened_store(store: Path, paths: tuple[Path, ...]) -> Store:
    """The store of the one ObjectStore in `paths`, or the folder store `store` where no file is given."""
    return open_store(_object_store(paths) if paths else directory_store(store.resolve()))


def _object_store(paths: tuple[Path, ...]) -> StoreSpec:
    reading = read_files(paths)
    if reading.problems:
        raise SpecError("; ".join(str(problem) for problem in reading.problems))
    found = [item for item in reading.manifests if item.is_atoll and item.kind == "ObjectStore"]
    if len(found) != 1:
        raise SpecError(f"the files hold {len(found)} ObjectStores; give exactly one")
    return store_spec(object_store(found[0].value))


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Duration(click.ParamType[float]):
    """Seconds, from `90`, `90s`, `10m`, `1h30m` or `30d`; 0 only where `allow_zero` says so."""

    name = "duration"

    def __init__(self, *, allow_zero: bool = False) -> None:
        self._allow_zero = allow_zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        elif re.fullmatch(f"(?:{_DURATION.pattern})+", text):
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
        else:
            self.fail(f"{text!r} is no duration; write 90s, 10m, 1h30m or 30d", param, ctx)
        if seconds == 0 and not self._allow_zero:
            self.fail(f"{text!r}: a duration is more than 0", param, ctx)
        return seconds


class Moment(click.ParamType[float]):
    """Seconds since 1970, from a duration before now (`7d`, `12h`) or a date (`2027-01-31`, midnight here)."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value)
        if re.fullmatch(f"(?:{_DURATION.pattern})+", text):
            return time.time() - Duration().convert(text, param, ctx)
        try:
            return datetime.datetime.strptime(text, "%Y-%m-%d").astimezone().timestamp()
        except ValueError:
            self.fail(f"{text!r} is no time; write 7d, 12h or 2027-01-31", param, ctx)


class ByteSize(click.ParamType[int]):
    """Bytes, from `500MB`, `2GB` or `2GiB`."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        found = _SIZE.fullmatch(text)
        unit = next((unit for unit in _BYTES if found and unit.lower() == found.group(2).lower()), None)
        if found is None or unit is None:
            self.fail(f"{text!r} is no size; write 500MB, 2GB or 2GiB", param, ctx)
        return round(float(found.group(1)) * _BYTES[unit])


def size_words(count: int) -> str:
    """Bytes as people read them: `512 B`, `1.5 MB` (of 10^6 bytes)."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value >= 999.95 or larger == "kB":
            value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


class PictureSize(click.ParamType[tuple[int, int]]):
    """Width and height in pixels, from `640x480`."""

    name = "pixels"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", str(value))
        if found is None:
            self.fail(f"{str(value)!r} is no size of a picture; write 640x480", param, ctx)
        return int(found.group(1)), int(found.group(2))


F_manifest_files = TypeVar("F_manifest_files", bound=Callable[..., Any])


def files_option(what: str) -> Callable[[F_manifest_files], F_manifest_files]:
    """`-f`, once or several times, as the parameter `paths`; `what` a file or folder holds, for the help."""
    return click.option(
        "-f",
        "--filename",
        "paths",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help=f'File or folder with {what}; "-" reads standard input. May be given several times.',
    )
