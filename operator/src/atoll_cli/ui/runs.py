"""The runs of the local engine for the page: a summary of each, and one run with its stages and its curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atoll_cli.local.logs import modified
from atoll_cli.local.result import elapsed_seconds, stage_output
from atoll_cli.local.state import RunFolder, RunRecord, known_runs, read_record
from atoll_cli.pages import with_links
from atoll_cli.ui.logs import StageProgress, newest_progress, training_progress
from atoll_cli.ui.targets import target_rows
from atoll_cli.ui.tasks import RunQueue
from atoll_contract.document import DecodeError, replace
from atoll_contract.errors import AtollError, Reason, SpecError, advice
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import TERMINAL, Phase, RunStatus, StagePhase, StageStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.lifecycle.progress import with_progress
from atoll_operator.lifecycle.transition import current_stage

MAX_LISTED = 50
MAX_POINTS = 400
AT_WORK = "At work"


@dataclass(frozen=True)
class LocalRun:
    """A run on disk. `engine`: whether an engine works on it, started by this page or in a terminal."""

    folder: RunFolder
    record: RunRecord
    status: RunStatus
    engine: bool


def list_runs(store: Path, namespace: str) -> Iterator[LocalRun]:
    """The newest runs first, without those whose state cannot be read."""
    folders = [folder for folder in known_runs(store) if folder.namespace == namespace]
    for folder in sorted(folders, key=lambda item: modified(item.record), reverse=True)[:MAX_LISTED]:
        run = _read(folder)
        if run is not None:
            yield run


def find_run(store: Path, namespace: str, name: str) -> LocalRun:
    """Raises SpecError if there is none."""
    folder = next((item for item in known_runs(store) if (item.namespace, item.name) == (namespace, name)), None)
    run = _read(folder) if folder else None
    if run is None:
        raise SpecError(f"there is no run {name} in {store}")
    return run


def summary(run: LocalRun, queue: RunQueue) -> dict[str, Any]:
    """The run as an item of the list. `state` is a word for people; `queuePosition` is 0 unless the run waits."""
    status, name = run.status, run.folder.name
    waiting = queue.waiting
    return {
        "name": name,
        "state": _state(run, queue),
        "message": status.message,
        "model": run.record.document["spec"]["publish"]["model"],
        "percent": 100 if status.phase is Phase.SUCCEEDED else status.progress.percent if status.progress else 0,
        "ap50": status.summary.ap50,
        "ended": status.is_terminal,
        "working": run.engine,
        "queuePosition": waiting.index(name) + 1 if name in waiting else 0,
        "report": stage_output(status, Stage.EXPORT, "report") is not None,
    }


def details(run: LocalRun, queue: RunQueue) -> dict[str, Any]:
    """The summary with the stages and the curve of the training. Bar, sentence and curve come from one reading of the
    logs, so that they name the same step."""
    training = list(training_progress(run.folder))
    run = dataclasses.replace(run, status=_live_status(run, training))
    reason = run.status.reason if run.status.phase is Phase.FAILED else None
    return {
        **summary(run, queue),
        "reason": reason and str(reason),
        "advice": reason and with_links(advice(reason)),
        "stages": [_stage(item) for item in run.status.stages],
        "curve": [_point(item) for item in thin_out(item.progress for item in training)],
        "steps": (training[-1].progress.total_steps if training else None)
        or run.record.document["spec"]["training"].get("steps"),
        "perClass": [{"name": item.name, "ap50": item.ap50} for item in run.status.per_class],
        "targets": target_rows(run.status),
        "warnings": [with_links(text) for text in (run.status.dataset and run.status.dataset.warnings) or ()],
    }


def _live_status(run: LocalRun, training: list[StageProgress]) -> RunStatus:
    """The status with the newest progress of the stage at work. The engine itself writes progress every 30 s only."""
    status, stage = run.status, current_stage(run.status)
    if not run.engine or stage is None or stage.reason is not Reason.RUNNING or stage.job_ref is None:
        return status
    job = stage.job_ref.name
    if stage.name is Stage.TRAIN:
        newest = training[-1].progress if training and training[-1].job == job else None
    else:
        newest = newest_progress(run.folder, job)
    if newest is None:
        return status
    live = with_progress(replace(status, progress=None), newest, datetime.now(UTC))
    if live.progress is None:
        return status
    return live if newest.step or not newest.message else replace(live, message=newest.message)


def thin_out(points: Iterable[Progress]) -> list[Progress]:
    """At most MAX_POINTS of the points, with the last one. An attempt that resumed from a checkpoint replaces what came
    after the checkpoint."""
    kept: list[Progress] = []
    for point in points:
        while kept and (kept[-1].step or 0) >= (point.step or 0):
            kept.pop()
        kept.append(point)
    every = max(1, -(-len(kept) // MAX_POINTS))
    return [point for number, point in enumerate(kept) if (len(kept) - 1 - number) % every == 0]


def _read(folder: RunFolder) -> LocalRun | None:
    try:
        record = read_record(folder)
        status = read_status(record.status) if record else None
    except (AtollError, DecodeError):
        return None
    return LocalRun(folder, record, status or RunStatus(), folder.is_locked()) if record else None


def _state(run: LocalRun, queue: RunQueue) -> str:
    """A word for people. While the process of a run begins, its record still has the former phase."""
    name, phase = run.folder.name, run.status.phase
    at_rest = phase in TERMINAL or phase is Phase.SUSPENDED
    if name in queue.waiting:
        return "Queued"
    started = queue.started_at(name)
    if at_rest and started is not None and modified(run.folder.record) < started:
        return AT_WORK
    if at_rest:
        return str(phase)
    if run.engine and run.folder.cancel_request.exists():
        return "Cancelling"
    if run.engine and (queue.was_interrupted(name) or run.folder.suspend_request.exists()):
        return "Suspending"
    return str(phase) if run.engine or started is not None else "Interrupted"


def _stage(stage: StageStatus) -> dict[str, Any]:
    cancelled = stage.phase is StagePhase.FAILED and stage.reason is Reason.CANCELLED
    document: dict[str, Any] = {
        "name": str(stage.name),
        "phase": "Cancelled" if cancelled else str(stage.phase),
        "message": stage.message,
    }
    seconds = elapsed_seconds(stage)
    if stage.phase in (StagePhase.SUCCEEDED, StagePhase.FAILED) and seconds is not None:
        document["seconds"] = seconds
    return document


def _point(progress: Progress) -> dict[str, Any]:
    values = {"step": progress.step, "loss": progress.loss, "ap50": progress.ap50}
    return {name: value for name, value in values.items() if value is not None}
