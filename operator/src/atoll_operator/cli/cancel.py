"""`atoll cancel`: ends a local run for good."""

from pathlib import Path

import click

from atoll_contract.errors import SpecError
from atoll_operator.cli.local_store import named_run, store_option
from atoll_operator.local.record import read_record
from atoll_operator.status import read_status


@click.command(name="cancel", short_help="End a run for good.")
@click.argument("name", metavar="RUN")
@store_option
def command(name: str, store: Path) -> None:
    """End a run of the local engine; one that is at work stops its stage within a second.

    Nothing that was published is removed. A run that is suspended ends when it is started the next time.
    """
    folder = named_run(store, name)
    record = read_record(folder)
    status = read_status(record.status) if record else None
    if status is not None and status.is_terminal:
        raise SpecError(f"run {name} has ended already: {status.phase}")
    folder.cancel_request.touch()
    click.echo(f"run {name} is asked to end")
