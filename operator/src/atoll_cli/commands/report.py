"""`atoll report`: opens the report of a run."""

import sys
import webbrowser
from pathlib import Path

import click

from atoll_cli.cluster_access import connect
from atoll_cli.cluster_runs import status_of
from atoll_cli.local.result import REPORT
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.store_access import bucket_of, explain_store_errors, fetch, local_run
from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage


@click.command(name="report", short_help="Open the report of a run.")
@click.argument("name", metavar="RUN")
@engine_options(endpoint=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to put the report of a cluster's run; <run>-report.html by default.",
)
@click.option("--open/--no-open", "show", default=None, help="Open a browser, or only print the path.")
def report_command(name: str, engine: EngineOptions, output: Path | None, show: bool | None) -> None:
    """Print where the report of a run is, and open it in a browser on a terminal.

    That of a cluster's run is fetched from the bucket with your own credentials.
    """
    folder = engine.local_folder()
    path = _find_local(folder, name) if folder is not None else _fetch(engine, name, output)
    click.echo(str(path))
    if show if show is not None else sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())


def _find_local(store: Path, name: str) -> Path:
    folder = local_run(store, name)
    path = folder.results / REPORT
    if not path.is_file():
        raise SpecError(f"run {name} has no report in {folder.results}; its export stage has not ended, see atoll run")
    return path


def _fetch(engine: EngineOptions, name: str, output: Path | None) -> Path:
    access = connect(engine.cluster)
    run = access.run(name)
    outputs = (item for stage in status_of(run).stages if stage.name is Stage.EXPORT for item in stage.outputs)
    report = next((item for item in outputs if item.name == "report"), None)
    if report is None:
        raise SpecError(f"run {name} has no report yet; its export stage has not ended, see atoll status {name}")
    with explain_store_errors(endpoint=engine.endpoint):
        store = bucket_of(access, run["spec"]["objectStoreRef"]["name"], endpoint=engine.endpoint)
        path = output or Path(f"{name}-{REPORT}")
        return fetch(store, report.key, path, sha256=report.sha256, size=report.size)
