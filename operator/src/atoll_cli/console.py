"""What is shown on standard error while something takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from atoll_contract.errors import ExitCode, Reason, exit_code
from atoll_contract.stage_result import Progress, parse_line
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.lifecycle.progress import duration


class Transfer:
    """A bar while bytes go; nothing where nobody looks."""

    def __init__(self, name: str, size: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(name, total=size)

    def __enter__(self) -> Callable[[int], None]:
        self._bars.start()
        return lambda count: self._bars.advance(self._task, count)

    def __exit__(self, *details: object) -> None:
        self._bars.stop()


class Steps:
    """As `Transfer`, for many small things that are counted; without a total where that is not known."""

    def __init__(self, name: str, total: int | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(name, total=total)

    def __enter__(self) -> Callable[[], None]:
        self._bars.start()
        return lambda: self._bars.advance(self._task)

    def __exit__(self, *details: object) -> None:
        self._bars.stop()


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """The text with the time that has passed, while the block runs; without a terminal, one line before it."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(text, err=True)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(text, total=None)
        yield


def readable(line: str) -> str:
    """`line`, or what it says where it is a line of progress."""
    progress = parse_line(line)
    return line if progress is None else f"{progress.percent:3.0f}%  {_words(progress)}".rstrip()


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a log that was cut into chunks anywhere, without their ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _words(progress: Progress) -> str:
    parts = [progress.message] if progress.message else []
    if progress.step is not None:
        parts.append(f"step {progress.step}" + (f"/{progress.total_steps}" if progress.total_steps else ""))
    parts += [f"loss {progress.loss:.3f}"] if progress.loss is not None else []
    parts += [f"AP50 {progress.ap50:.2f}"] if progress.ap50 is not None else []
    parts += [f"about {duration(progress.eta_seconds)} left"] if progress.eta_seconds else []
    return ", ".join(parts)


FAILED = 1
CANCELLED = 3
# As timeout(1) has it.
TIMED_OUT = 124
INTERRUPTED = 130

EXIT_CODES = """
Exit codes: 0 done; 1 failed for a reason without a code of its own; 2 wrong usage; 3 the run was cancelled;
10-19 the data; 20-29 settings, permissions or the machine; 30-39 trouble that may pass; 40-49 the model or its
compilation; 50-59 integrity and publishing (docs/cli.md lists them); 124 not
ended in the time given; 130 suspended by Ctrl-C.
"""


def exit_status(status: RunStatus) -> int:
    """The exit code for a run that has this status."""
    if status.phase is Phase.SUCCEEDED:
        return 0
    if status.phase is Phase.CANCELLED:
        return CANCELLED
    if status.phase is not Phase.FAILED:
        return INTERRUPTED
    return reason_status(status.reason)


def reason_status(reason: Reason) -> int:
    """The exit code for a failure with `reason`."""
    code = exit_code(reason)
    # `exit_code` answers InternalError for all that it does not know.
    return int(code) if code is not ExitCode.INTERNAL_ERROR or reason is Reason.INTERNAL_ERROR else FAILED
