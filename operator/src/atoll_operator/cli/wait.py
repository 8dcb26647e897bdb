"""`atoll wait`: until runs have ended, with an exit code that tells how."""

from __future__ import annotations

import click

from atoll_operator.cli.cluster_access import Where, cluster_options
from atoll_operator.cli.endings import TIMED_OUT, exit_status
from atoll_operator.cli.quantities import Duration
from atoll_operator.cli.run_watch import TimeIsUp, Watch, status_of
from atoll_operator.status import Phase, RunStatus


@click.command(name="wait", short_help="Wait until a run has ended; the exit code tells how.")
@click.argument("name", metavar="RUN")
@cluster_options
@click.option(
    "--timeout", type=Duration(allow_zero=True), metavar="TIME", help="Give up after 90s, 15m, 1h30m, …; exit code 124."
)
@click.pass_context
def command(context: click.Context, name: str, where: Where, timeout: float | None) -> None:
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
    from atoll_operator.cli.cluster_table import phase_words

    click.echo(f"{name}: {phase_words(status)}")
    context.exit(exit_status(status))
