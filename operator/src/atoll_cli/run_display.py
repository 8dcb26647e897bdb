"""How a run shows on the screen: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.table import Table

from atoll_cli.local.engine import RunObserver
from atoll_cli.local.result import RunResult
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.lifecycle.model import EventType, RunEvent
from atoll_operator.lifecycle.progress import duration

LINE_EVERY_SECONDS = 10.0
# Told by the table at the end, or of interest on a cluster only.
_QUIET = frozenset(
    {"Admitted", "Completed", "Failed", "Cancelled", "Suspended", "ReleasePublished", "Retried", "Resumed"}
)


class Display(RunObserver, Protocol):
    """An observer of the engine that is also a context: it leaves the screen tidy."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PlainDisplay:
    """Lines on standard error, one every few seconds at most."""

    def __init__(self) -> None:
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lines leave nothing to tidy."""

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def status(self, status: RunStatus) -> None:
        """Events and progress say it all."""

    def progress(self, stage: Stage, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_SECONDS:
            self._last = now
            self.say(f"{stage}: {progress.percent:.0f}% {progress_words(progress)}".rstrip())

    def event(self, event: RunEvent) -> None:
        if event.reason not in _QUIET:
            self.say(event_words(event))


class LiveDisplay:
    """One bar for the stage that runs, and a line above it for each that has ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._bars.add_task("", total=100, words="", visible=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def status(self, status: RunStatus) -> None:
        if status.is_terminal:
            self._bars.update(self._task, visible=False)

    def progress(self, stage: Stage, progress: Progress) -> None:
        words = progress_words(progress)
        self._bars.update(self._task, description=str(stage), completed=progress.percent, words=words, visible=True)

    def event(self, event: RunEvent) -> None:
        if event.reason == "StageStarted":
            stage = event.message.partition(":")[0]
            self._bars.reset(self._task, description=stage, words="", visible=True)
        elif event.reason not in _QUIET:
            self.say(event_words(event))


def progress_words(progress: Progress) -> str:
    """`step 450/1000, loss 0.610, AP50 0.710, about 3 min left`, as far as the stage says so."""
    pictures = f"{progress.pictures} pictures" if progress.pictures is not None else ""
    loss, ap50 = (f"{value:.3f}" if value is not None else None for value in (progress.loss, progress.ap50))
    figures = figure_words(progress.step, progress.total_steps, loss=loss, ap50=ap50, eta_seconds=progress.eta_seconds)
    return ", ".join(part for part in (progress.message, pictures, figures) if part)


def figure_words(
    step: int | None, total: int | None, *, loss: str | None, ap50: str | None, eta_seconds: float | None
) -> str:
    """The figures of a stage that runs, as far as they are known."""
    parts = []
    if step is not None:
        parts.append(f"step {step}" + (f"/{total}" if total else ""))
    parts += [f"{name} {value}" for name, value in (("loss", loss), ("AP50", ap50)) if value]
    if eta_seconds is not None:
        parts.append(f"about {duration(eta_seconds)} left")
    return ", ".join(parts)


def event_words(event: RunEvent) -> str:
    marks = {"StageSucceeded": "done", "StageSkipped": "skipped", "StageStarted": "started"}
    mark = marks.get(event.reason, "warning" if event.type is EventType.WARNING else "")
    return f"{mark}: {event.message}" if mark else event.message


def print_outcome(result: RunResult) -> None:
    """Print the result for a reader."""
    console = Console(highlight=False)
    document = result.document
    if result.recalled:
        console.print(f"run {document['run']} has ended before; --rerun starts it anew", markup=False)
    console.print(_stages(document))
    if "metrics" in document:
        console.print(_metrics(document["metrics"]))
    console.print(f"{document['run']}: {document['phase']}: {_why(document)}", markup=False, soft_wrap=True)
    for name in ("bundle", "report"):
        if name in document:
            console.print(f"{name}: {document[name]}", markup=False, soft_wrap=True)
    if result.status.phase is Phase.FAILED:
        console.print(f"output of the stages: {result.folder.jobs}/*/output.log", markup=False, soft_wrap=True)


def _why(document: Mapping[str, Any]) -> str:
    failed = document["phase"] == Phase.FAILED
    return f"{document['reason']}: {document['message']}" if failed else str(document["message"])


def _stages(document: Mapping[str, Any]) -> Table:
    table = Table("stage", "phase", "time", "tries", "result", box=None, pad_edge=False)
    for stage in document["stages"]:
        seconds = stage.get("seconds")
        time = duration(seconds) if seconds is not None else ""
        table.add_row(stage["name"], stage["phase"], time, str(stage["attempts"] or ""), _plain(stage["message"]))
    return table


def _metrics(metrics: Mapping[str, Any]) -> Table:
    table = Table("AP50", "float", "int8", box=None, pad_edge=False)
    table.add_row("all classes", _number(metrics["float"].get("ap50")), _number(metrics["int8"].get("ap50")))
    for name, value in metrics["int8"].get("perClass", {}).items():
        table.add_row(_plain(name), "", _number(value))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """Text of a user's data set is no markup."""
    from rich.markup import escape

    return escape(text)
