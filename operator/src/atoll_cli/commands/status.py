"""`atoll status` and `atoll wait`: the runs of a local store or of a namespace, or one until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.cluster_runs import RunSource, RunWatch, WaitTimeout, describe_phase, run_view, runs_table, status_of
from atoll_cli.console import TIMED_OUT, exit_status, print_view
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option
from atoll_cli.param_types import Duration
from atoll_cli.sweeps import (
    ShownSweep,
    SweepSource,
    find_sweep,
    has_ended,
    list_sweeps,
    sweep_exit_status,
    sweep_line,
    sweep_view,
    sweeps_table,
)
from atoll_contract.errors import SpecError
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.kube.objects import RUNS

if TYPE_CHECKING:
    from rich.console import Group


@click.command(name="status", short_help="Show runs, live with --watch.")
@click.argument("name", required=False, metavar="[RUN]")
@engine_options(all_namespaces=True)
@click.option("-w", "--watch", is_flag=True, help="Follow the run or sweep until it ends, and end with its exit code.")
@output_option
@click.pass_context
def status_command(
    context: click.Context, name: str | None, engine: EngineOptions, watch: bool, output: Output
) -> None:
    """Show all runs and sweeps of the local store or of a cluster's namespace (atoll help cli says which), or the
    stages of one run.

    The name of a sweep shows its trials.
    """
    everywhere = engine.cluster.all_namespaces
    if watch and (name is None or not output.is_text):
        raise click.UsageError("--watch follows one run or sweep on the screen; name it, and leave -o out")
    if everywhere and name is not None:
        raise click.UsageError(f"-A lists every run; for {name} alone name its namespace with -n")
    source = run_source(engine)
    sweep = _sweep_of(source, name) if name is not None else None
    if name is None:
        _print_runs(source, output, everywhere=everywhere)
    elif sweep is not None and watch:
        context.exit(follow_sweep(source, name))
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
    """Print the runs and sweeps of the source; with `everywhere`, a cluster's of every namespace."""
    found = source.cluster.list_all(RUNS) if everywhere and isinstance(source, ClusterAccess) else source.runs()
    engine = source if isinstance(source, LocalRuns | ClusterAccess) else None
    sweeps = list_sweeps(engine, everywhere=everywhere) if engine is not None else []
    if not output.is_text:
        output.print([*found, *sweeps], [item["metadata"]["name"] for item in (*found, *sweeps)])
        return
    now = datetime.now(UTC)
    if not found and not sweeps:
        click.echo(f"no TrainingRuns in {'any namespace' if everywhere else source.location}", err=True)
    if found:
        table = runs_table(found, now=now, namespaces=everywhere, wide=output.is_wide)
        print_view(table, wide=output.is_wide)
    if found and sweeps:
        click.echo()
    if sweeps:
        print_view(sweeps_table(sweeps, now=now, namespaces=everywhere), wide=output.is_wide)


def follow(source: RunSource, name: str) -> int:
    """Show the run until it ends; returns its exit code. Raises as `RunWatch.states` does."""
    run: Body = {}
    with _live_view(run_view, lambda run: f"{run['metadata']['name']}: {describe_phase(status_of(run))}") as show:
        for run in RunWatch(source, name).states():
            show(run)
    return exit_status(status_of(run))


def follow_sweep(source: RunSource, name: str) -> int:
    """Show the sweep until it ends; returns its exit code. Raises as `RunWatch.states` does."""
    assert isinstance(source, LocalRuns | ClusterAccess)
    sweep: Body = {}

    def view(body: Body) -> Group:
        return sweep_view(find_sweep(source, name) or ShownSweep(body, ()))

    with _live_view(view, sweep_line) as show:
        for sweep in RunWatch(SweepSource(source), name, settled=has_ended).states():
            show(sweep)
    return sweep_exit_status(ShownSweep(sweep, ()).status)


@contextmanager
def _live_view(view: Callable[[Body], Group], describe: Callable[[Body], str]) -> Iterator[Callable[[Body], None]]:
    """A `view` that is drawn anew on a terminal; elsewhere a line for each change of what it is to `describe`, and the
    view at the end."""
    from rich.console import Console
    from rich.live import Live

    if sys.stdout.isatty():
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda body: live.update(view(body), refresh=True)
        return
    last_line, last = "", None

    def show(body: Body) -> None:
        nonlocal last_line, last
        line = describe(body)
        if line != last_line:
            click.echo(line, err=True)
        last_line, last = line, body

    try:
        yield show
    finally:
        if last is not None:
            print_view(view(last))


@click.command(name="wait", short_help="Wait until a run or sweep has ended; the exit code tells how.")
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
    """Wait until a run or sweep succeeded, failed or was cancelled.

    A suspended run is waited for: it may be resumed. So is one whose retry was asked for.
    """
    source = run_source(engine)
    if _sweep_of(source, name) is not None:
        context.exit(_wait_for_sweep(source, name, timeout, output))
    run: Body = {}
    status = RunStatus()
    was_suspended = False
    try:
        for run in RunWatch(source, name).states(timeout=timeout):
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


def _wait_for_sweep(source: RunSource, name: str, timeout: float | None, output: Output) -> int:
    """Wait until a sweep has ended; returns its exit code."""
    assert isinstance(source, LocalRuns | ClusterAccess)
    sweep: Body = {}
    try:
        for body in RunWatch(SweepSource(source), name, settled=has_ended).states(timeout=timeout):
            sweep = body
    except WaitTimeout:
        click.echo(f"sweep {name} has not ended within {timeout:.0f} s; {sweep_line(sweep)}", err=True)
        return TIMED_OUT
    if output.is_text:
        click.echo(sweep_line(sweep))
    else:
        output.print(sweep, [name])
    return sweep_exit_status(ShownSweep(sweep, ()).status)
