"""The bucket behind an ObjectStore of the cluster, with the user's own credentials (the AWS tools' chain).

The Secret that the ObjectStore names is for the stages; the command line never asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from atoll_contract.backoff import Backoff
from atoll_contract.errors import SpecError
from atoll_contract.store import Store, StoreError, StoreForbidden, StoreUnavailable
from atoll_operator.api.parse import object_store
from atoll_operator.api.stage_input import store_spec
from atoll_operator.cli.cluster_access import Access

F = TypeVar("F", bound=Callable[..., Any])

# Somebody looks at the screen; a stage waits longer.
PATIENCE_SECONDS = 30.0


def endpoint_option(function: F) -> F:
    """`--endpoint URL`."""
    return click.option(
        "--endpoint",
        metavar="URL",
        envvar="ATOLL_ENDPOINT",
        help="Where this machine reaches the store, if not where the cluster does (kubectl port-forward).",
    )(function)


def bucket_of(access: Access, name: str, *, endpoint: str | None = None, writing: bool = False) -> Store:
    """The bucket of the ObjectStore `name`, not asked yet.

    Raises:
        SpecError: there is no such ObjectStore.
    """
    from atoll_contract.s3store import S3Store
    from atoll_operator.cluster import STORES

    found = access.cluster.read(STORES, access.namespace, name)
    if found is None:
        raise SpecError(f"there is no ObjectStore {name} in namespace {access.namespace}")
    # The annotation that makes a folder of it is the local engine's.
    spec = store_spec(replace(object_store(found), directory=None))
    spec = replace(spec, endpoint=endpoint or spec.endpoint, anonymous=spec.anonymous and not writing)
    return S3Store(spec, backoff=Backoff(total=PATIENCE_SECONDS))


@contextmanager
def explained(*, endpoint: str | None) -> Iterator[None]:
    """Adds to the store's errors what a user's machine, unlike a stage, may lack."""
    try:
        yield
    except (StoreForbidden, StoreUnavailable) as error:
        if isinstance(error, StoreForbidden):
            advice = "your own credentials are used (AWS_ACCESS_KEY_ID …, AWS_PROFILE, ~/.aws), not the ObjectStore's"
        elif endpoint is None:
            advice = "if only the cluster reaches that address, use kubectl port-forward and --endpoint"
        else:
            raise
        raise StoreError(error.reason, f"{error.message}; {advice}") from None


class Transfer:
    """A bar on standard error while bytes go; nothing where nobody looks."""

    def __init__(self, name: str, size: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(name, total=size)

    def __enter__(self) -> Callable[[int], None]:
        self._bars.start()
        return lambda count: self._bars.advance(self._task, count)

    def __exit__(self, *details: object) -> None:
        self._bars.stop()


class Steps:
    """As `Transfer`, for many small things that are counted; without a total where that is not known."""

    def __init__(self, name: str, total: int | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(name, total=total)

    def __enter__(self) -> Callable[[], None]:
        self._bars.start()
        return lambda: self._bars.advance(self._task)

    def __exit__(self, *details: object) -> None:
        self._bars.stop()


def fetched(store: Store, key: str, path: Path, *, sha256: str, size: int) -> Path:
    """`path`, with the object's bytes after they were checked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Transfer(path.name, size) as transferred:
        store.download(key, path, sha256=sha256, transferred=transferred)
    return path
