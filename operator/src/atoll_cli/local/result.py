"""What a run leaves for its user: the document of `--json`, the bundle and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_cli.local.state import RunFolder
from atoll_contract.files import written_whole
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import Store
from atoll_operator.api.status import Phase, RunStatus, StageStatus, parse_time

BUNDLE = "model.tar.gz"
REPORT = "report.html"
RESULT = "result.json"


def fetch_files(status: RunStatus, store: Store, target: Path) -> dict[str, Path]:
    """Put the bundle and the report of a run into `target`, as far as there are such; by name."""
    wanted = {BUNDLE: _output(status, Stage.PUBLISH, "bundle"), REPORT: _output(status, Stage.EXPORT, "report")}
    found = {name: artifact for name, artifact in wanted.items() if artifact is not None}
    if found:
        target.mkdir(parents=True, exist_ok=True)
    for name, artifact in found.items():
        store.download(artifact.key, target / name, sha256=artifact.sha256)
    return {name: target / name for name in found}


def result_document(
    folder: RunFolder, status: RunStatus, files: Mapping[str, Path], seconds: Mapping[Stage, float]
) -> dict[str, Any]:
    """The document that docs/contract.md §6 shows."""
    document: dict[str, Any] = {
        "run": folder.name,
        "namespace": folder.namespace,
        "phase": str(status.phase),
        "reason": str(status.reason),
        "message": status.message,
        "release": status.release.name if status.release and status.phase is Phase.SUCCEEDED else None,
        "metrics": _metrics(status),
        "stages": [_stage(item, seconds.get(item.name)) for item in status.stages],
        "bundle": _path(files.get(BUNDLE)),
        "report": _path(files.get(REPORT)),
    }
    return {name: value for name, value in document.items() if value is not None}


def write_result(document: Mapping[str, Any], target: Path) -> Path:
    import json

    target.mkdir(parents=True, exist_ok=True)
    path = target / RESULT
    with written_whole(path) as stream:
        stream.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    return path


def _metrics(status: RunStatus) -> dict[str, Any] | None:
    if status.metrics is None:
        return None
    both = {
        name: {key: float(value) for key, value in (("ap50", model.ap50), ("ap", model.ap)) if value}
        for name, model in (("float", status.metrics.float_), ("int8", status.metrics.int8))
    }
    per_class = {item.name: float(item.ap50) for item in status.per_class}
    return {"float": both["float"], "int8": {**both["int8"], "perClass": per_class}}


def _stage(stage: StageStatus, seconds: float | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": str(stage.name),
        "phase": str(stage.phase),
        "reason": str(stage.reason),
        "message": stage.message,
        "attempts": stage.attempts,
    }
    if seconds is None and stage.start_time and stage.completion_time and stage.attempts:
        seconds = (parse_time(stage.completion_time) - parse_time(stage.start_time)).total_seconds()
    return document if seconds is None else {**document, "seconds": round(seconds, 1)}


def _output(status: RunStatus, stage: Stage, name: str) -> Artifact | None:
    outputs = next((item.outputs for item in status.stages if item.name is stage), ())
    return next((item for item in outputs if item.name == name), None)


def _path(path: Path | None) -> str | None:
    return str(path) if path else None
