"""`atoll report`: opens the report of a run."""

import sys
import webbrowser
from pathlib import Path

import click

from atoll_contract.errors import SpecError
from atoll_operator.cli.local_store import named_run, store_option
from atoll_operator.local.outcome import REPORT


@click.command(name="report", short_help="Open the report of a run.")
@click.argument("name", metavar="RUN")
@store_option
@click.option("--open/--no-open", "show", default=None, help="Open a browser, or only print the path.")
def command(name: str, store: Path, show: bool | None) -> None:
    """Print where report.html of a local run is, and open it in a browser on a terminal."""
    folder = named_run(store, name)
    path = folder.results / REPORT
    if not path.is_file():
        raise SpecError(f"run {name} has no report in {folder.results}; its export stage has not ended, see atoll run")
    click.echo(str(path))
    if show if show is not None else sys.stdout.isatty():
        webbrowser.open(path.as_uri())
