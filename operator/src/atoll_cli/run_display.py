"""The display of a local run: a live bar on a terminal, plain lines anywhere else, and tables at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from atoll_cli.cluster_runs import CHOSEN_ON, STAGE_COLUMNS, dataset_warnings
from atoll_cli.console import describe_figures, print_view, text_table
from atoll_cli.local.engine import RunObserver
from atoll_cli.local.result import RunResult
from atoll_cli.pages import with_links
from atoll_contract.errors import advice
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_contract.text import ap50_text, duration
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.lifecycle.plan import EventType, RunEvent

LINE_EVERY_SECONDS = 10.0
# Events that the table at the end shows anyway, or that are of interest on a cluster only.
_HIDDEN_EVENTS = frozenset(
    {"Admitted", "Completed", "Failed", "Cancelled", "Suspended", "ReleasePublished", "Retried", "Resumed"}
)


class Display(RunObserver, Protocol):
    """An observer of the engine that is also a context: it leaves the screen tidy."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...


class DatasetWarnings:
    """Says each warning of the data once, when the conversion has found it: a training on the wrong labels takes
    hours."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def show(self, status: RunStatus, say: Callable[[str], None]) -> None:
        for line in dataset_warnings(status):
            if line not in self._said:
                self._said.add(line)
                say(line)


class PlainDisplay:
    """Lines on standard error; one every few seconds at most for progress."""

    def __init__(self) -> None:
        self._last = 0.0
        self._warnings = DatasetWarnings()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        """Does nothing: lines leave nothing to tidy."""

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def status(self, status: RunStatus) -> None:
        """Says what the conversion warns of; events and progress show the rest."""
        if not status.is_terminal:
            self._warnings.show(status, self.say)

    def progress(self, stage: Stage, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_SECONDS:
            self._last = now
            self.say(f"{stage}: {progress.percent:.0f}% {describe_progress(progress)}".rstrip())

    def event(self, event: RunEvent) -> None:
        if event.reason not in _HIDDEN_EVENTS:
            self.say(describe_event(event))


class LiveDisplay:
    """One bar for the stage that runs, and above it a line for each stage that has ended."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Bars(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=100, details="", visible=False)
        self._warnings = DatasetWarnings()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def status(self, status: RunStatus) -> None:
        if status.is_terminal:
            self._progress.update(self._task, visible=False)
        else:
            self._warnings.show(status, self.say)

    def progress(self, stage: Stage, progress: Progress) -> None:
        details = describe_progress(progress)
        self._progress.update(
            self._task, description=str(stage), completed=progress.percent, details=details, visible=True
        )

    def event(self, event: RunEvent) -> None:
        if event.reason == "StageStarted":
            stage = event.message.partition(":")[0]
            self._progress.reset(self._task, description=stage, details="", visible=True)
        elif event.reason not in _HIDDEN_EVENTS:
            self.say(describe_event(event))


def describe_progress(progress: Progress) -> str:
    """The stage's message, the number of images and the figures, each if the stage reports it."""
    images = f"{progress.pictures} pictures" if progress.pictures is not None else ""
    loss, ap50 = (f"{value:.3f}" if value is not None else None for value in (progress.loss, progress.ap50))
    step, total, eta = progress.step, progress.total_steps, progress.eta_seconds
    figures = describe_figures(step, total, loss=loss, ap50=ap50, eta_seconds=eta)
    return ", ".join(part for part in (progress.waiting, progress.message, images, figures) if part)


def describe_event(event: RunEvent) -> str:
    marks = {"StageSucceeded": "done", "StageSkipped": "skipped", "StageStarted": "started"}
    mark = marks.get(event.reason, "warning" if event.type is EventType.WARNING else "")
    message = with_links(event.message)
    return f"{mark}: {message}" if mark else message


def print_outcome(result: RunResult) -> None:
    """Print the result of a run as tables and sentences; the last one says how it ended and what its model is worth."""
    document = result.document
    failed = result.status.phase is Phase.FAILED
    if result.recalled:
        click.echo(f"run {document['run']} has ended before; --rerun starts it anew")
    print_view(_stages_table(document))
    for line in dataset_warnings(result.status):
        click.echo(line)
    if "metrics" in document:
        print_view(_metrics_table(document["metrics"]))
        if document["metrics"].get("split") == "validation":
            click.echo(CHOSEN_ON)
    for name in ("bundle", "report"):
        if name in document:
            click.echo(f"{name}: {document[name]}")
    if failed:
        click.echo(f"output of the stages: {result.folder.jobs}/*/*.log")
        click.echo(with_links(advice(result.status.reason)))
    message = f"{document['reason']}: {document['message']}" if failed else str(document["message"])
    click.echo(f"{document['run']}: {document['phase']}: {message}")


def _stages_table(document: Mapping[str, Any]) -> Table:
    rows = []
    for stage in document["stages"]:
        time = duration(stage["seconds"]) if "seconds" in stage else ""
        rows.append((stage["name"], stage["phase"], time, str(stage["attempts"] or ""), stage["message"]))
    return text_table(STAGE_COLUMNS, rows)


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    int8 = metrics["int8"]
    borders = int8.get("ap50Interval")
    measured = ap50_text(int8["ap50"], images=metrics.get("pictures", 0), interval=borders) if "ap50" in int8 else ""
    rows = [("all classes", _format(metrics["float"].get("ap50")), measured)]
    rows += [(name, "", _format(value)) for name, value in metrics["int8"].get("perClass", {}).items()]
    return text_table(("AP50", "float", "int8"), rows)


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
