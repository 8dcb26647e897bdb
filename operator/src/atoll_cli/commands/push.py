"""`atoll push`: labelled archives and start weights into the bucket, checked before and resumed after a break."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from atoll_cli.console import Transfer, waiting
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import Where, either_options, local_folder, opened_store, size_words
from atoll_cli.store_access import bucket_of, endpoint_option, explained
from atoll_cli.tool import ToolMissing, inspected
from atoll_contract import keys
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.store.base import Store
from atoll_contract.store.s3 import S3Store

_EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(name="push", short_help="Check a labelled archive and put it into the bucket.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_EXISTING)
@either_options
@endpoint_option
@click.option("--object-store", default="default", show_default=True, help="Name of the ObjectStore.")
@click.option("--weights", is_flag=True, help="The files are start weights, not archives.")
@click.option("--no-check", is_flag=True, help="Put archives without looking into them.")
def push_command(
    files: tuple[Path, ...],
    store: Path | None,
    where: Where,
    endpoint: str | None,
    object_store: str,
    weights: bool,
    no_check: bool,
) -> None:
    """Look into each archive as the convert stage will, then put it under datasets/<namespace>/<file name>.

    Your own credentials are used. An upload that broke off goes on within a day when the command is given again.
    """
    _require_names(files)
    if not weights and not no_check:
        for file in files:
            check(file)
    folder = local_folder(store, where, by_namespace=True)
    with explained(endpoint=endpoint):
        if folder is not None:
            target, namespace = opened_store(folder, ()), where.namespace or DEFAULT_NAMESPACE
        else:
            access = where.connect()
            target, namespace = bucket_of(access, object_store, endpoint=endpoint, writing=True), access.namespace
        for file in files:
            key = keys.weights(file.name) if weights else keys.dataset(namespace, file.name)
            put(target, key, file)


def _require_names(files: tuple[Path, ...]) -> None:
    """Raises SpecError where two files would take one key."""
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"two of the files are called {name}, and the name is the key; rename one of them")


def check(file: Path) -> None:
    """Print what the archive holds.

    Raises:
        DatasetError: a run would refuse it.
    """
    try:
        with waiting(f"checking {file} ({size_words(file.stat().st_size)})"):
            report = inspected([file])
    except ToolMissing as error:
        raise SpecError(f"{error.message}; --no-check leaves it out") from None
    if not report.ok:
        raise DatasetError(Reason(report.reason), f"{report.fault_of(str(file))}; nothing was put into the store")
    click.echo(f"{file}: {report.message} ({', '.join(report.formats)})")
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)


def put(store: Store, key: str, file: Path) -> None:
    """Upload the file with a bar, unless the store has these bytes there already."""
    size = file.stat().st_size
    there = store.head(key)
    if there is not None and there.size == size and there.sha256 == file_sha256(file):
        click.echo(f"{key} is there already")
        return
    if there is not None:
        other = " with other bytes" if there.sha256 is not None else ""
        click.echo(f"{key} is there{other} and is replaced", err=True)
    with Transfer(file.name, size) as transferred:
        if isinstance(store, S3Store):
            store.upload(key, file, transferred=transferred, memory=memory_of(store, key))
        else:
            store.upload(key, file, transferred=transferred)
    click.echo(f"{key} is put into {store.url}")


def memory_of(store: Store, key: str) -> Path:
    """Where this user's machine notes the upload to that key."""
    name = hashlib.sha256(f"{store.url}{key}".encode()).hexdigest()
    return Path(click.get_app_dir("atoll")) / "uploads" / f"{name}.json"
