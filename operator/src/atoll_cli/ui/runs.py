"""The runs of the local engine as the page shows them: one line each, and one with its stages and curve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.state import RunFolder, RunRecord, known_runs, read_record
from atoll_cli.ui.tasks import RunQueue
from atoll_contract.document import DecodeError
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, Progress, parse_line
from atoll_operator.api.status import TERMINAL, Phase, RunStatus, StagePhase, StageStatus, parse_time, read_status

MOST_LISTED = 50
AT_WORK = "At work"
MOST_POINTS = 400
# A progress line has less than 200 bytes and comes every few seconds: this is more than a day.
_LOG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class LocalRun:
    """A run on disk. `engine`: whether an engine works on it, started by this page or in a terminal."""

    folder: RunFolder
    record: RunRecord
    status: RunStatus
    engine: bool

    def artifact(self, stage: Stage, name: str) -> Artifact | None:
        outputs = next((item.outputs for item in self.status.stages if item.name is stage), ())
        return next((item for item in outputs if item.name == name), None)


def found_runs(store: Path, namespace: str) -> Iterator[LocalRun]:
    """The newest runs first; one whose state cannot be read is passed over."""
    folders = [folder for folder in known_runs(store) if folder.namespace == namespace]
    for folder in sorted(folders, key=lambda item: _changed(item.record), reverse=True)[:MOST_LISTED]:
        run = _read(folder)
        if run is not None:
            yield run


def found_run(store: Path, namespace: str, name: str) -> LocalRun:
    """Raises SpecError where there is none."""
    folder = next((item for item in known_runs(store) if (item.namespace, item.name) == (namespace, name)), None)
    run = _read(folder) if folder else None
    if run is None:
        raise SpecError(f"there is no run {name} in {store}")
    return run


def line(run: LocalRun, queue: RunQueue) -> dict[str, Any]:
    """The run in a list. `state` is a word for people, `open` whether it can go on."""
    status, name = run.status, run.folder.name
    progress = status.progress
    waiting = queue.waiting
    document: dict[str, Any] = {
        "name": name,
        "state": _state(run, name in waiting, queue.running == name),
        "message": status.message,
        "model": run.record.document["spec"]["publish"]["model"],
        "created": run.record.created,
        "percent": 100 if status.phase is Phase.SUCCEEDED else progress.percent if progress else 0,
        "ap50": status.summary.ap50,
        "release": status.release.name if status.release and status.phase is Phase.SUCCEEDED else "",
        "ended": status.is_terminal,
        "working": run.engine,
        "place": waiting.index(name) + 1 if name in waiting else 0,
        "report": run.artifact(Stage.EXPORT, "report") is not None,
    }
    return document


def view(run: LocalRun, queue: RunQueue) -> dict[str, Any]:
    """The run with its stages and its curve."""
    points = [_point(item) for item in thinned(list(_progress(run.folder)))]
    newest = points[-1] if points else {}
    return {
        **line(run, queue),
        "stages": [_stage(item) for item in run.status.stages],
        "curve": points,
        "steps": run.record.document["spec"]["training"].get("steps"),
        "eta": newest.get("eta") if run.status.phase is Phase.TRAINING and run.engine else None,
        "perClass": [{"name": item.name, "ap50": item.ap50} for item in run.status.per_class],
    }


def thinned(points: list[Progress]) -> list[Progress]:
    """At most MOST_POINTS of them, the last one with them; of an attempt that went back, what came after counts."""
    kept: list[Progress] = []
    for point in points:
        while kept and (kept[-1].step or 0) >= (point.step or 0):
            kept.pop()
        kept.append(point)
    every = max(1, -(-len(kept) // MOST_POINTS))
    return [point for number, point in enumerate(kept) if (len(kept) - 1 - number) % every == 0]


def _read(folder: RunFolder) -> LocalRun | None:
    try:
        record = read_record(folder)
        status = read_status(record.status) if record else None
    except (AtollError, DecodeError):
        return None
    return LocalRun(folder, record, status or RunStatus(), folder.is_locked()) if record else None


def _state(run: LocalRun, waits: bool, ours: bool) -> str:
    """A word for people. A process that begins or ends has a record that says otherwise still."""
    phase = run.status.phase
    if waits:
        return "Queued"
    if ours:
        return AT_WORK if phase in TERMINAL or phase is Phase.SUSPENDED else str(phase)
    if phase in TERMINAL or phase is Phase.SUSPENDED or run.engine:
        return str(phase)
    return "Interrupted"


def _stage(stage: StageStatus) -> dict[str, Any]:
    document: dict[str, Any] = {"name": str(stage.name), "phase": str(stage.phase), "message": stage.message}
    if stage.phase in (StagePhase.SUCCEEDED, StagePhase.FAILED) and stage.start_time and stage.completion_time:
        seconds = (parse_time(stage.completion_time) - parse_time(stage.start_time)).total_seconds()
        document["seconds"] = max(0.0, seconds)
    return document


def _progress(folder: RunFolder) -> Iterator[Progress]:
    """What the train stage has told, attempt after attempt; the logs outlive the engine and this page."""
    logs = sorted(folder.jobs.glob(f"{folder.name}-{Stage.TRAIN}-*/output.log"), key=_changed)
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


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
