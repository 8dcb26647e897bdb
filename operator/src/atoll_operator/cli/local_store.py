"""The options by which commands find a local run or a store, and the store that they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from atoll_contract.errors import SpecError
from atoll_contract.stage import StoreSpec
from atoll_contract.store import Store, open_store
from atoll_operator.api.manifests import read_files
from atoll_operator.api.parse import object_store
from atoll_operator.api.stage_input import directory_store, store_spec
from atoll_operator.local.folders import DEFAULT_STORE, RunFolder, known_runs

F = TypeVar("F", bound=Callable[..., Any])


def store_option(function: F) -> F:
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
