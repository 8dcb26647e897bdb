"""Runs of the cluster on the screen: a list of them, one with its stages, one line of a live run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from atoll_operator.cli.run_display import figure_words
from atoll_operator.cli.run_watch import status_of
from atoll_operator.decide.conditions import STALLING
from atoll_operator.decide.progress import duration
from atoll_operator.status import Phase, RunStatus, StagePhase, StageStatus, Usage, parse_time, seconds_between

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

Body = dict[str, Any]


def runs_table(runs: Iterable[Body], *, now: datetime) -> Table:
    """The columns of `kubectl get trun`."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("NAME", "PHASE", "PROGRESS", "AP50", "TPU", "RELEASE", "AGE", box=None, pad_edge=False)
    for run in runs:
        status = status_of(run)
        progress = status.progress.display if status.progress else ""
        age = duration(seconds_between(run["metadata"]["creationTimestamp"], now))
        summary = status.summary
        row = (run["metadata"]["name"], status.phase, progress, summary.ap50, summary.tpu, summary.release, age)
        table.add_row(*(escape(cell) for cell in row))
    return table


def run_view(run: Body, *, now: datetime | None = None) -> Group:
    """One run: its stages as a table, and below it what else there is to say."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    status = status_of(run)
    moment = now or datetime.now(UTC)
    table = Table("stage", "phase", "time", "tries", "result", box=None, pad_edge=False)
    for stage in status.stages:
        message = Text(_words(status, stage))
        table.add_row(stage.name, stage.phase, _time(stage, moment), str(stage.attempts or ""), message)
    lines = (Text(line) for line in run_lines(run))
    return Group(*([table] if status.stages else []), *lines)


def run_lines(run: Body) -> Iterator[str]:
    """The run as a whole, in sentences."""
    status = status_of(run)
    yield f"{run['metadata']['name']}: {phase_words(status)}"
    if status.phase is Phase.FAILED or (status.reason in STALLING and not status.is_terminal):
        yield f"what to do: docs/troubleshooting.md#{str(status.reason).lower()}"
    if status.queue is not None:
        eta = f", about {duration(status.queue.eta_seconds)}" if status.queue.eta_seconds else ""
        yield f"queue: {status.queue.ahead} ahead{eta}"
    summary = status.summary
    if summary.ap50 or summary.tpu:
        yield f"AP50 {summary.ap50 or 'unknown'}, TPU {summary.tpu or 'unknown'}"
    if status.release is not None and status.release.manifest is not None:
        yield f"release: {status.release.name} (atoll pull {status.release.name})"
    if status.estimate is not None:
        yield f"estimate: {duration(status.estimate.seconds)} in all ({status.estimate.basis})"
    if status.usage is not None:
        yield f"used: {', '.join(_used(status, status.usage))}"


def phase_words(status: RunStatus) -> str:
    """`Training 45%: step 450/1000`; of a failed run its reason."""
    if status.phase is Phase.FAILED:
        return f"{status.phase}: {status.reason}: {status.message}"
    share = f" {status.progress.display}" if status.progress and not status.is_terminal else ""
    return f"{status.phase}{share}" + (f": {status.message}" if status.message else "")


def _words(status: RunStatus, stage: StageStatus) -> str:
    progress = status.progress
    if stage.phase is not StagePhase.RUNNING or progress is None or progress.stage is not stage.name:
        return stage.message
    figures = figure_words(
        progress.step,
        progress.total_steps,
        loss=progress.loss,
        ap50=progress.ap50,
        eta_seconds=progress.eta_seconds,
    )
    return figures or stage.message


def _used(status: RunStatus, usage: Usage) -> Iterator[str]:
    """`12 min of active time`, and what its pods had."""
    yield f"{duration(status.active_seconds)} of active time"
    each = ", ".join(f"{item.name} {duration(item.pod_seconds)}" for item in status.stages if item.pod_seconds)
    yield f"{duration(usage.pod_seconds)} of pods" + (f" ({each})" if each else "")
    for seconds, what in ((usage.cpu_seconds, "CPUs"), (usage.gpu_seconds, "GPUs")):
        if seconds:
            yield f"{duration(seconds)} of {what}"


def _time(stage: StageStatus, now: datetime) -> str:
    if stage.start_time is None:
        return ""
    end = parse_time(stage.completion_time) if stage.completion_time else now
    return duration(seconds_between(stage.start_time, end))
