"""What is shown on standard error while something takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


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
