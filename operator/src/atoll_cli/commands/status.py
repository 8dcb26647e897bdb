"""`atoll status` and `atoll wait`: the runs of a local store or of a namespace, or one until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from atoll_cli.cluster_access import Body, connect_engine
from atoll_cli.cluster_runs import RunSource, RunWatch, WaitTimeout, describe_phase, run_view, runs_table, status_of
from atoll_cli.console import TIMED_OUT, exit_status, print_json, print_view
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.param_types import Duration
from atoll_operator.api.status import Phase, RunStatus


@click.command(name="status", short_help="Show runs, live with --watch.")
@click.argument("name", required=False, metavar="[RUN]")
@engine_options()
@click.option("-w", "--watch", is_flag=True, help="Follow the run until it ends, and end with its exit code.")
@click.option("--json", "as_json", is_flag=True, help="Print the objects as JSON.")
@click.pass_context
def status_command(context: click.Context, name: str | None, engine: EngineOptions, watch: bool, as_json: bool) -> None:
    """Show all runs of the local store or of a cluster's namespace (docs/cli.md says which), or the stages of one."""
    if watch and (name is None or as_json):
        raise click.UsageError("--watch follows one run on the screen; name it, and leave --json out")
    source = run_source(engine)
    if name is None:
        _print_runs(source, as_json=as_json)
    elif watch:
        context.exit(follow(source, name))
    elif as_json:
        print_json(source.run(name))
    else:
        print_view(run_view(source.run(name)))


def run_source(engine: EngineOptions) -> RunSource:
    """The runs of the engine that the options select. Raises as `connect_engine` does."""
    folder = engine.local_folder()
    return LocalRuns(folder) if folder is not None else connect_engine(engine)


def _print_runs(source: RunSource, *, as_json: bool) -> None:
    found = source.runs()
    if as_json:
        print_json(found)
    elif found:
        print_view(runs_table(found, now=datetime.now(UTC)))
    else:
        click.echo(f"no TrainingRuns in {source.location}", err=True)


def follow(source: RunSource, name: str) -> int:
    """Show the run's stages until it has ended; returns its exit code."""
    run: Body = {}
    with _live_view() as show:
        for run in RunWatch(source, name).states():
            show(run)
    return exit_status(status_of(run))


@contextmanager
def _live_view() -> Iterator[Callable[[Body], None]]:
    """A table that is drawn anew on a terminal; elsewhere a line for each change of phase or message, and the table at
    the end."""
    from rich.console import Console
    from rich.live import Live

    if sys.stdout.isatty():
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda run: live.update(run_view(run), refresh=True)
        return
    last_line, last_run = "", None

    def show(run: Body) -> None:
        nonlocal last_line, last_run
        line = f"{run['metadata']['name']}: {describe_phase(status_of(run))}"
        if line != last_line:
            click.echo(line, err=True)
        last_line, last_run = line, run

    try:
        yield show
    finally:
        if last_run is not None:
            print_view(run_view(last_run))


@click.command(name="wait", short_help="Wait until a run has ended; the exit code tells how.")
@click.argument("name", metavar="RUN")
@engine_options()
@click.option(
    "--timeout", type=Duration(allow_zero=True), metavar="TIME", help="Give up after 90s, 15m, 1h30m, …; exit code 124."
)
@click.pass_context
def wait_command(context: click.Context, name: str, engine: EngineOptions, timeout: float | None) -> None:
    """Wait until a run succeeded, failed or was cancelled.

    A suspended run is waited for: it may be resumed. So is one whose retry was asked for.
    """
    status = RunStatus()
    was_suspended = False
    try:
        for run in RunWatch(run_source(engine), name).states(timeout=timeout):
            status = status_of(run)
            if status.phase is Phase.SUSPENDED and not was_suspended:
                click.echo(f"run {name} is suspended; atoll resume {name} lets it go on", err=True)
                was_suspended = True
    except WaitTimeout:
        click.echo(f"run {name} has not ended within {timeout:.0f} s; it is {status.phase}", err=True)
        context.exit(TIMED_OUT)
    click.echo(f"{name}: {describe_phase(status)}")
    context.exit(exit_status(status))
