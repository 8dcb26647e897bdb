"""`atoll wait`: until runs have ended, with an exit code that tells how."""

from __future__ import annotations

import re

import click

from atoll_operator.cli.cluster_access import Where, cluster_options
from atoll_operator.cli.endings import TIMED_OUT, exit_status
from atoll_operator.cli.run_watch import TimeIsUp, Watch, status_of
from atoll_operator.status import Phase, RunStatus

_PART = re.compile(r"(\d+)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def seconds_of(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:  # noqa: ARG001
    """`90s`, `1h30m`, or a number of seconds; an option's callback."""
    if text is None or text.isdecimal():
        return None if text is None else float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"{text!r} is no duration; write 90s, 15m, 1h30m or a number of seconds")
    return float(sum(int(number) * _SECONDS[unit] for number, unit in parts))


@click.command(name="wait", short_help="Wait until a run has ended; the exit code tells how.")
@click.argument("name", metavar="RUN")
@cluster_options
@click.option("--timeout", callback=seconds_of, metavar="TIME", help="Give up after 90s, 15m, 1h30m, …; exit code 124.")
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
