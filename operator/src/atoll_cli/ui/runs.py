"""The runs of the local engine for the page: a summary of each, and one run with its stages and its curve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.result import elapsed_seconds, stage_output
from atoll_cli.local.state import RunFolder, RunRecord, known_runs, read_record
from atoll_cli.ui.tasks import RunQueue
from atoll_contract.document import DecodeError
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress, parse_line
from atoll_operator.api.status import TERMINAL, Phase, RunStatus, StagePhase, StageStatus, read_status

MAX_LISTED = 50
MAX_POINTS = 400
AT_WORK = "At work"
# A line of progress has less than 200 bytes and comes every few seconds: this is more than a day.
_LOG_BYTES = 4 * 2**20


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
    for folder in sorted(folders, key=lambda item: _modified(item.record), reverse=True)[:MAX_LISTED]:
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
        "state": _state(run, waits=name in waiting, started_here=queue.running == name),
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
    """The summary with the stages and the curve of the training."""
    points = [_point(item) for item in thin_out(_progress(run.folder))]
    newest = points[-1] if points else {}
    return {
        **summary(run, queue),
        "stages": [_stage(item) for item in run.status.stages],
        "curve": points,
        "steps": run.record.document["spec"]["training"].get("steps"),
        "eta": newest.get("eta") if run.status.phase is Phase.TRAINING and run.engine else None,
        "perClass": [{"name": item.name, "ap50": item.ap50} for item in run.status.per_class],
    }


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


def _state(run: LocalRun, *, waits: bool, started_here: bool) -> str:
    """A word for people. While the process of a run begins or ends, its record still has the former phase."""
    phase = run.status.phase
    at_rest = phase in TERMINAL or phase is Phase.SUSPENDED
    if waits:
        return "Queued"
    if started_here:
        return AT_WORK if at_rest else str(phase)
    return str(phase) if at_rest or run.engine else "Interrupted"


def _stage(stage: StageStatus) -> dict[str, Any]:
    document: dict[str, Any] = {"name": str(stage.name), "phase": str(stage.phase), "message": stage.message}
    seconds = elapsed_seconds(stage)
    if stage.phase in (StagePhase.SUCCEEDED, StagePhase.FAILED) and seconds is not None:
        document["seconds"] = seconds
    return document


def _progress(folder: RunFolder) -> Iterator[Progress]:
    """The progress of the train stage, attempt after attempt, from the logs, which outlive the engine and the page."""
    logs = sorted(folder.jobs.glob(f"{folder.name}-{Stage.TRAIN}-*/output.log"), key=_modified)
    for path in logs:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LOG_BYTES))
            text = log.read(_LOG_BYTES).decode(errors="replace")
        for row in text.splitlines():
            progress = parse_line(row)
            if progress is not None and progress.step:
                yield progress


def _point(progress: Progress) -> dict[str, Any]:
    values = {"step": progress.step, "loss": progress.loss, "ap50": progress.ap50, "eta": progress.eta_seconds}
    return {name: value for name, value in values.items() if value is not None}


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
