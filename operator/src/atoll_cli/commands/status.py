"""`atoll status` and `atoll wait`: the runs of a local store or of a namespace, or one until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.cluster_runs import RunSource, RunWatch, WaitTimeout, describe_phase, run_view, runs_table, status_of
from atoll_cli.console import TIMED_OUT, exit_status, print_view
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option
from atoll_cli.param_types import Duration
from atoll_cli.sweeps import ShownSweep, find_sweep, list_sweeps, sweep_view, sweeps_table
from atoll_contract.errors import SpecError
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.kube.objects import RUNS


@click.command(name="status", short_help="Show runs, live with --watch.")
@click.argument("name", required=False, metavar="[RUN]")
@engine_options(all_namespaces=True)
@click.option("-w", "--watch", is_flag=True, help="Follow the run until it ends, and end with its exit code.")
@output_option
@click.pass_context
def status_command(
    context: click.Context, name: str | None, engine: EngineOptions, watch: bool, output: Output
) -> None:
    """Show all runs of the local store or of a cluster's namespace (docs/cli.md says which), or the stages of one.

    The name of a sweep shows its trials.
    """
    everywhere = engine.cluster.all_namespaces
    if watch and (name is None or not output.is_text):
        raise click.UsageError("--watch follows one run on the screen; name it, and leave -o out")
    if everywhere and name is not None:
        raise click.UsageError(f"-A lists every run; for {name} alone name its namespace with -n")
    source = run_source(engine)
    sweep = _sweep_of(source, name) if name is not None and not watch else None
    if name is None:
        _print_runs(source, output, everywhere=everywhere)
    elif sweep is not None:
        if output.is_text:
            print_view(sweep_view(sweep))
        else:
            output.print(sweep.body, [sweep.name])
    elif watch:
        context.exit(follow(source, name))
    elif output.is_text:
        print_view(run_view(source.run(name)))
    else:
        output.print(source.run(name), [name])


def _sweep_of(source: RunSource, name: str) -> ShownSweep | None:
    """The sweep of this name, where no run has it."""
    if not isinstance(source, LocalRuns | ClusterAccess):
        return None
    try:
        source.run(name)
    except SpecError:
        return find_sweep(source, name)
    return None


def run_source(engine: EngineOptions) -> RunSource:
    """The runs of the engine that the options select. Raises as `connect_engine` does."""
    folder = engine.local_folder()
    return LocalRuns(folder) if folder is not None else connect_engine(engine)


def _print_runs(source: RunSource, output: Output, *, everywhere: bool) -> None:
    """Print the runs of the source; with `everywhere`, a cluster's of every namespace."""
    found = source.cluster.list_all(RUNS) if everywhere and isinstance(source, ClusterAccess) else source.runs()
    if not output.is_text:
        output.print(found, [run["metadata"]["name"] for run in found])
    elif found:
        now = datetime.now(UTC)
        print_view(runs_table(found, now=now, namespaces=everywhere, wide=output.is_wide))
        sweeps = [] if everywhere or not isinstance(source, LocalRuns | ClusterAccess) else list_sweeps(source)
        if sweeps:
            click.echo()
            print_view(sweeps_table(sweeps, now=now))
    else:
        click.echo(f"no TrainingRuns in {'any namespace' if everywhere else source.location}", err=True)


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
@output_option
@click.pass_context
def wait_command(
    context: click.Context, name: str, engine: EngineOptions, timeout: float | None, output: Output
) -> None:
    """Wait until a run succeeded, failed or was cancelled.

    A suspended run is waited for: it may be resumed. So is one whose retry was asked for.
    """
    run: Body = {}
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
    if output.is_text:
        click.echo(f"{name}: {describe_phase(status)}")
    else:
        output.print(run, [name])
    context.exit(exit_status(status))
