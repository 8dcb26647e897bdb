"""`atoll push`: checks labelled archives and puts them, or start weights, into the bucket; resumes broken uploads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from atoll_cli.console import spinner, transfer_progress
from atoll_cli.folders import archive_file, stored_name
from atoll_cli.options import EngineOptions, engine_options, max_invalid_option
from atoll_cli.output import Output, output_option
from atoll_cli.pages import with_links
from atoll_cli.param_types import InputPath, format_size
from atoll_cli.store_access import explain_store_errors, open_engine_store
from atoll_cli.tool import ToolMissing, lint_archives
from atoll_contract import keys
from atoll_contract.errors import DatasetError, IntegrityError, Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.store.base import Store
from atoll_contract.store.s3 import S3Store

_TEXT = Output()
# How every HDF5 file begins (HDF5 File Format Specification, "Superblock").
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@click.command(name="push", short_help="Check a labelled archive and put it into the bucket.")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=InputPath(folders=True),
)
@engine_options(endpoint=True, object_store=True)
@click.option("--weights", is_flag=True, help="The files are start weights, not archives.")
@click.option("--no-check", is_flag=True, help="Put archives without looking into them.")
@max_invalid_option
@output_option
def push_command(
    files: tuple[Path, ...],
    engine: EngineOptions,
    weights: bool,
    no_check: bool,
    max_invalid_percent: float | None,
    output: Output,
) -> None:
    """Look into each archive as the convert stage will, then put it under datasets/<namespace>/<file name>.

    A folder is packed as a .tar of its name. Your own credentials are used. An upload that broke off goes on within a
    day when the command is given again.
    """
    names = [stored_name(file) for file in files]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"two of the files are called {name}, and the name is the key; rename one of them")
    folder = next((file for file in files if file.is_dir()), None)
    if weights and folder is not None:
        raise SpecError(f"--weights {folder} is a folder; name the file with the weights")
    for file in files if weights else ():
        check_weights(file)
    if not weights and not no_check:
        for file in files:
            check_archive(file, max_invalid_percent=max_invalid_percent, output=output)
    with explain_store_errors(endpoint=engine.endpoint):
        access = open_engine_store(engine, writing=True)
        pushed = []
        for file in files:
            with archive_file(file) as packed:
                key = keys.weights(file.name) if weights else keys.dataset(access.namespace, packed.name)
                uploaded = upload(access.store, key, packed, output)
                pushed.append({"file": str(file), "store": access.store.url, "key": key, "uploaded": uploaded})
    if not output.is_text:
        output.print(pushed, [str(item["key"]) for item in pushed])


def check_archive(file: Path, *, max_invalid_percent: float | None = None, output: Output = _TEXT) -> None:
    """Print what the archive holds.

    Raises:
        DatasetError: a run would refuse it.
    """
    try:
        size = "" if file.is_dir() else f" ({format_size(file.stat().st_size)})"
        with spinner(f"checking {file}{size}"):
            report = lint_archives([file], max_invalid_percent=max_invalid_percent)
    except ToolMissing as error:
        raise SpecError(f"{error.message}; --no-check leaves it out") from None
    if not report.ok:
        raise DatasetError(Reason(report.reason), f"{report.fault_of(str(file))}; nothing was put into the store")
    output.say(f"{file}: {report.message} ({', '.join(report.formats)})")
    for warning in report.warnings:
        click.echo(with_links(f"warning: {warning}"), err=True)


def check_weights(file: Path) -> None:
    """Raises IntegrityError if the file is no HDF5, by its first bytes: training looks into it."""
    with file.open("rb") as opened:
        begin = opened.read(len(HDF5_SIGNATURE))
    if begin != HDF5_SIGNATURE:
        raise IntegrityError(
            f"{file} is no HDF5 file (it begins with {begin!r}), and trainings start from those alone: the weights of "
            "a run of Atoll, or Keras' of ImageNet, which atoll weights gets. Nothing was put into the store"
        )


def upload(store: Store, key: str, file: Path, output: Output) -> bool:
    """Upload the file and show a progress bar, unless the store has these bytes there already; returns whether it was
    uploaded."""
    size = file.stat().st_size
    there = store.head(key)
    if there is not None and there.size == size and there.sha256 == file_sha256(file):
        output.say(f"{key} is there already")
        return False
    if there is not None:
        other = " with other bytes" if there.sha256 is not None else ""
        click.echo(f"{key} is there{other} and is replaced", err=True)
    with transfer_progress(file.name, size) as transferred:
        if isinstance(store, S3Store):
            store.upload(key, file, transferred=transferred, state_file=_state_file(store, key))
        else:
            store.upload(key, file, transferred=transferred)
    output.say(f"{key} is put into {store.url}")
    return True


def _state_file(store: Store, key: str) -> Path:
    """Where this user's machine keeps the state of the upload to that key."""
    name = hashlib.sha256(f"{store.url}{key}".encode()).hexdigest()
    return Path(click.get_app_dir("atoll")) / "uploads" / f"{name}.json"
