"""The output of the command line: documents, tables, progress on standard error; and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from atoll_contract.errors import ExitCode, Reason, exit_code
from atoll_contract.stage_result import Progress
from atoll_contract.text import duration, table_cell
from atoll_operator.api.status import Phase, RunStatus

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

FAILED = 1
CANCELLED = 3
# No table and no sentence is as wide.
_UNWRAPPED = 100_000
# The exit code of timeout(1).
TIMED_OUT = 124
INTERRUPTED = 130

EXIT_CODES = "Exit codes (atoll help cli): 0 done, 1 failed, 2 wrong usage, 130 suspended."


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
    # `exit_code` returns InternalError for every reason that it does not know.
    return int(code) if code is not ExitCode.INTERNAL_ERROR or reason is Reason.INTERNAL_ERROR else FAILED


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def output_console() -> Console:
    """Standard output, without rich's highlighting of numbers and paths."""
    from rich.console import Console

    return Console(highlight=False)


def print_view(view: RenderableType, *, wide: bool = False) -> None:
    """Print a table or lines. They are wrapped on a terminal alone, where it is as wide as their words, and never for
    `-o wide`: programs and files take a row as one line, as kubectl prints it."""
    from rich.measure import Measurement

    console = output_console()
    needed = Measurement.get(console, console.options.update(width=_UNWRAPPED), view).minimum
    if console.is_terminal and not wide and needed <= console.width:
        console.print(view)
        return
    console.width = _UNWRAPPED
    with console.capture() as captured:
        console.print(view)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def text_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, figures: bool = False) -> Table:
    """A table without borders, whose cells are text without markup and control characters; `figures` aligns all but the
    first column right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(Text(table_cell(column)), justify="right" if figures and number else "left")
    for row in rows:
        table.add_row(*(Text(table_cell(cell)) for cell in row))
    return table


@contextmanager
def transfer_progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar for `size` bytes. The function is called with the bytes that were transferred since its last call."""
    from rich.progress import DownloadColumn, TimeRemainingColumn

    with _bar(name, size, DownloadColumn(), TimeRemainingColumn()) as update:
        yield lambda count: update(advance=count)


@contextmanager
def count_progress(name: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A bar for many small things, of which `total` may be unknown. The function is called after each of them."""
    from rich.progress import MofNCompleteColumn

    with _bar(name, total, MofNCompleteColumn()) as update:
        yield lambda: update(advance=1)


@contextmanager
def stage_progress(title: str) -> Iterator[Callable[[Progress], None]]:
    """A bar with the message of a program that reports its progress."""
    from rich.progress import TaskProgressColumn, TimeRemainingColumn

    with _bar(title, 100, TaskProgressColumn(), TimeRemainingColumn()) as update:
        yield lambda progress: update(completed=progress.percent, description=progress.message or title)


@contextmanager
def _bar(title: str, total: float | None, *columns: Any) -> Iterator[Callable[..., None]]:
    """Shows nothing where standard error is not a terminal. A title is a user's text, which may look like markup."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    first = TextColumn("{task.description}", markup=False)
    with Bars(first, BarColumn(), *columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield partial(shown.update, shown.add_task(title, total=total))


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Shows the text with the time that has passed, while the block runs; without a terminal, one line before it."""
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


def describe_figures(
    step: int | None, total: int | None, *, loss: str | None, ap50: str | None, eta_seconds: float | None
) -> str:
    """`step 450/1000, loss 0.610, AP50 0.710, about 3 min left`: the figures of a running stage that are known."""
    parts = []
    if step is not None:
        parts.append(f"step {step}" + (f"/{total}" if total else ""))
    parts += [f"{name} {value}" for name, value in (("loss", loss), ("AP50", ap50)) if value]
    if eta_seconds is not None:
        parts.append(f"about {duration(eta_seconds)} left")
    return ", ".join(parts)
