"""`atoll cancel`: ends a run for good."""

from pathlib import Path

import click

from atoll_contract.errors import SpecError
from atoll_operator.cli.cluster_access import Where, either_options, local_folder
from atoll_operator.cli.local_store import named_run
from atoll_operator.cli.running import require_running
from atoll_operator.local.record import read_record
from atoll_operator.status_document import read_status


@click.command(name="cancel", short_help="End a run for good.")
@click.argument("name", metavar="RUN")
@either_options
def command(name: str, store: Path | None, where: Where) -> None:
    """End a run of the cluster or of the local engine (docs/cli.md says which). It cannot be taken back.

    Nothing that was published is removed. A local run that is suspended ends when it is started the next time.
    """
    folder = local_folder(store, where)
    if folder is not None:
        _cancel_local(folder, name)
        return
    access = where.connect()
    require_running(access.run(name))
    access.patch_run(name, {"spec": {"cancel": True}})
    click.echo(f"run {name} in namespace {access.namespace} is asked to end")


def _cancel_local(store: Path, name: str) -> None:
    """A stage that is at work stops within a second."""
    folder = named_run(store, name)
    record = read_record(folder)
    status = read_status(record.status) if record else None
    if status is not None and status.is_terminal:
        raise SpecError(f"run {name} has ended already: {status.phase}")
    folder.cancel_request.touch()
    click.echo(f"run {name} in {store.resolve()} is asked to end")
