"""`atoll status`: the runs of a namespace, or one with its stages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from atoll_cli.cluster_runs import Body, TimeIsUp, Watch, status_of
from atoll_cli.console import TIMED_OUT, exit_status
from atoll_cli.options import Access, Duration, Where, cluster_options
from atoll_operator.api.status import Phase, RunStatus


@click.command(name="status", short_help="Show runs of the cluster, live with --watch.")
@click.argument("name", required=False, metavar="[RUN]")
@cluster_options
@click.option("-w", "--watch", is_flag=True, help="Follow the run until it ends, and end with its exit code.")
@click.option("--json", "as_json", is_flag=True, help="Print the objects as JSON.")
@click.pass_context
def status_command(context: click.Context, name: str | None, where: Where, watch: bool, as_json: bool) -> None:
    """Show all TrainingRuns of a namespace, or the stages of one."""
    if watch and (name is None or as_json):
        raise click.UsageError("--watch follows one run on the screen; name it, and leave --json out")
    access = where.connect()
    if name is None:
        _list(access, as_json=as_json)
    elif watch:
        context.exit(follow(access, name))
    else:
        _show(access.run(name), as_json=as_json)


def follow(access: Access, name: str) -> int:
    """Show the run's stages until it has ended; its exit code."""
    run: Body = {}
    with _screen() as show:
        for run in Watch(access, name).looks():
            show(run)
    return exit_status(status_of(run))


def _list(access: Access, *, as_json: bool) -> None:
    from rich.console import Console

    from atoll_cli.cluster_runs import runs_table

    found = access.runs()
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif found:
        Console(highlight=False).print(runs_table(found, now=datetime.now(UTC)))
    else:
        click.echo(f"no TrainingRuns in namespace {access.namespace}", err=True)


def _show(run: Body, *, as_json: bool) -> None:
    from rich.console import Console

    from atoll_cli.cluster_runs import run_view

    if as_json:
        click.echo(json.dumps(run, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(run_view(run))


@contextmanager
def _screen() -> Iterator[Callable[[Body], None]]:
    """A table that is drawn anew on a terminal; elsewhere a line for each change, and the table at the end."""
    from rich.console import Console
    from rich.live import Live

    from atoll_cli.cluster_runs import run_view

    if sys.stdout.isatty():
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            yield lambda run: live.update(run_view(run), refresh=True)
        return
    lines = Lines()
    try:
        yield lines.show
    finally:
        lines.finish()


class Lines:
    """One line whenever what the run says of itself has changed."""

    def __init__(self) -> None:
        self._last = ""
        self._run: Body | None = None

    def show(self, run: Body) -> None:
        from atoll_cli.cluster_runs import phase_words

        self._run = run
        line = f"{run['metadata']['name']}: {phase_words(status_of(run))}"
        if line != self._last:
            click.echo(line, err=True)
        self._last = line

    def finish(self) -> None:
        """The table of the run as it was last seen."""
        if self._run is not None:
            _show(self._run, as_json=False)


@click.command(name="wait", short_help="Wait until a run has ended; the exit code tells how.")
@click.argument("name", metavar="RUN")
@cluster_options
@click.option(
    "--timeout", type=Duration(allow_zero=True), metavar="TIME", help="Give up after 90s, 15m, 1h30m, …; exit code 124."
)
@click.pass_context
def wait_command(context: click.Context, name: str, where: Where, timeout: float | None) -> None:
    """Wait until a run succeeded, failed or was cancelled.

    A suspended run is waited for: it may be resumed. So is one whose retry was asked for.
    """
    status = RunStatus()
    told = False
    try:
        for run in Watch(where.connect(), name).looks(timeout=timeout):
            status = status_of(run)
            if status.phase is Phase.SUSPENDED and not told:
                click.echo(f"run {name} is suspended; atoll resume {name} lets it go on", err=True)
                told = True
    except TimeIsUp:
        click.echo(f"run {name} has not ended within {timeout:.0f} s; it is {status.phase}", err=True)
        context.exit(TIMED_OUT)
    from atoll_cli.cluster_runs import phase_words

    click.echo(f"{name}: {phase_words(status)}")
    context.exit(exit_status(status))
