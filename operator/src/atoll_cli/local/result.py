"""The result of a run: the document of `-o json`, the bundle and the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.state import RunFolder
from atoll_contract.files import written_whole
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import Store
from atoll_operator.api.status import Phase, RunStatus, StageStatus, parse_time, seconds_between

BUNDLE = "model.tar.gz"
REPORT = "report.html"
RESULT = "result.json"


@dataclass(frozen=True)
class RunResult:
    """The state in which `launch` leaves a run. `document` is that of `-o json`; `recalled` is True where the run had
    ended before."""

    status: RunStatus
    document: Mapping[str, Any]
    folder: RunFolder
    recalled: bool = False


def fetch_files(status: RunStatus, store: Store, target: Path) -> dict[str, Path]:
    """Download the bundle and the report of a run into `target`, if they exist; return their paths by name."""
    outputs = {
        BUNDLE: stage_output(status, Stage.PUBLISH, "bundle"),
        REPORT: stage_output(status, Stage.EXPORT, "report"),
    }
    found = {name: artifact for name, artifact in outputs.items() if artifact is not None}
    if found:
        target.mkdir(parents=True, exist_ok=True)
    for name, artifact in found.items():
        store.download(artifact.key, target / name, sha256=artifact.sha256)
    return {name: target / name for name in found}


def result_document(
    folder: RunFolder, status: RunStatus, files: Mapping[str, Path], seconds: Mapping[Stage, float]
) -> dict[str, Any]:
    """The document of docs/contract.md §6."""
    document: dict[str, Any] = {
        "run": folder.name,
        "namespace": folder.namespace,
        "phase": str(status.phase),
        "reason": str(status.reason),
        "message": status.message,
        "release": status.release.name if status.release and status.phase is Phase.SUCCEEDED else None,
        "assessment": status.summary.assessment,
        "metrics": _metrics(status),
        "warnings": (status.dataset and status.dataset.warnings) or None,
        "stages": [_stage(item, seconds.get(item.name)) for item in status.stages],
        **{name: str(files[file]) for name, file in (("bundle", BUNDLE), ("report", REPORT)) if file in files},
    }
    return {name: value for name, value in document.items() if value is not None}


def write_result(document: Mapping[str, Any], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with written_whole(target / RESULT) as stream:
        stream.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")


def stage_output(status: RunStatus, stage: Stage, name: str) -> Artifact | None:
    """The output of that name of a stage that has succeeded."""
    outputs = next((item.outputs for item in status.stages if item.name is stage), ())
    return next((item for item in outputs if item.name == name), None)


def elapsed_seconds(stage: StageStatus) -> float | None:
    """Seconds from the start of a stage to its completion; None for one that has not completed."""
    if not stage.start_time or not stage.completion_time:
        return None
    return seconds_between(stage.start_time, parse_time(stage.completion_time))


def _metrics(status: RunStatus) -> dict[str, Any] | None:
    if status.metrics is None:
        return None
    both: dict[str, dict[str, Any]] = {
        name: {key: float(value) for key, value in (("ap50", model.ap50), ("ap", model.ap)) if value}
        for name, model in (("float", status.metrics.float_), ("int8", status.metrics.int8))
    }
    int8 = status.metrics.int8
    if int8.ap50_low and int8.ap50_high:
        both["int8"]["ap50Interval"] = [float(int8.ap50_low), float(int8.ap50_high)]
    per_class = {item.name: float(item.ap50) for item in status.per_class}
    measured = {"pictures": status.metrics.pictures, "split": status.metrics.split} if status.metrics.pictures else {}
    return {"float": both["float"], "int8": {**both["int8"], "perClass": per_class}, **measured}


def _stage(stage: StageStatus, seconds: float | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": str(stage.name),
        "phase": str(stage.phase),
        "reason": str(stage.reason),
        "message": stage.message,
        "attempts": stage.attempts,
    }
    if seconds is None and stage.attempts:
        seconds = elapsed_seconds(stage)
    return document if seconds is None else {**document, "seconds": round(seconds, 1)}
