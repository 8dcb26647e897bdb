"""`atoll report`: opens the report of a run."""

import sys
import webbrowser
from pathlib import Path

import click

from atoll_cli.cluster_access import connect_engine
from atoll_cli.cluster_runs import status_of
from atoll_cli.local.result import REPORT, stage_output
from atoll_cli.local.runfile import recorded_run_file
from atoll_cli.local.state import known_runs
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_options
from atoll_cli.store_access import bucket_of, explain_store_errors, fetch
from atoll_cli.sweep_report import SWEEP_REPORT, sweep_report
from atoll_cli.sweeps import ShownSweep, find_sweep
from atoll_contract.errors import SpecError
from atoll_contract.files import file_sha256
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_contract.store import open_store
from atoll_operator.api.status import RunStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.jobs.stage_input import store_spec
from atoll_operator.kube.objects import RUNS


@click.command(name="report", short_help="Open the report of a run.")
@click.argument("name", metavar="RUN")
@engine_options(endpoint=True)
@output_options(file="Where to put the report; <run>-report.html by default, of a local run <store>/results/<run>.")
@click.option("--open/--no-open", "show", default=None, help="Open a browser, or only print the path.")
def report_command(name: str, engine: EngineOptions, output: Output, to: Path | None, show: bool | None) -> None:
    """Print where the report of a run is, and open it in a browser on a terminal.

    A local run has it in its store. That of a cluster's run is fetched from the bucket with your own credentials. That
    of a sweep is written from its trials.
    """
    folder = engine.local_folder()
    sweep = _sweep_of(engine, folder, name)
    if sweep is not None:
        path = _write_sweep_report(sweep, to or Path(f"{name}-{SWEEP_REPORT}"))
    else:
        path = _find_run_report(engine, folder, name, to)
    if output.is_text:
        click.echo(str(path))
    else:
        output.print({"run": name, "report": str(path)}, [str(path)])
    if show if show is not None else output.is_text and sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())


def _find_run_report(engine: EngineOptions, folder: Path | None, name: str, to: Path | None) -> Path:
    return _find_local(folder, name, to) if folder is not None else _fetch(engine, name, to)


def _sweep_of(engine: EngineOptions, folder: Path | None, name: str) -> ShownSweep | None:
    """The sweep of this name, where no run has it."""
    if folder is not None:
        is_run = any(item.name == name for item in known_runs(folder.resolve()))
        return None if is_run else find_sweep(LocalRuns(folder), name)
    access = connect_engine(engine)
    return None if access.cluster.read(RUNS, access.namespace, name) is not None else find_sweep(access, name)


def _write_sweep_report(sweep: ShownSweep, path: Path) -> Path:
    path.write_text(sweep_report(sweep.name, sweep.spec, sweep.status, sweep.trials), encoding="utf-8")
    return path


def _find_local(store: Path, name: str, to: Path | None) -> Path:
    """The report that `atoll run` has put beside the store, else a copy of that in the store."""
    folder, record = LocalRuns(store).record(name)
    report = _report_of(name, read_status(record.status) or RunStatus())
    path = to or folder.results / REPORT
    if path.is_file() and file_sha256(path) == report.sha256:
        return path
    own_store = open_store(store_spec(recorded_run_file(folder, record).own_store))
    return fetch(own_store, report.key, path, sha256=report.sha256, size=report.size)


def _report_of(name: str, status: RunStatus) -> Artifact:
    report = stage_output(status, Stage.EXPORT, "report")
    if report is None:
        raise SpecError(f"run {name} has no report yet; its export stage has not ended, see atoll status {name}")
    return report


def _fetch(engine: EngineOptions, name: str, to: Path | None) -> Path:
    access = connect_engine(engine)
    run = access.run(name)
    report = _report_of(name, status_of(run))
    with explain_store_errors(endpoint=engine.endpoint):
        store = bucket_of(access, run["spec"]["objectStoreRef"]["name"], endpoint=engine.endpoint)
        path = to or Path(f"{name}-{REPORT}")
        return fetch(store, report.key, path, sha256=report.sha256, size=report.size)
