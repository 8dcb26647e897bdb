"""Runs that are ready to be published, and publishers as a child process runs them."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.keys import RunRef
from atoll_contract.labelmap import format_label_map
from atoll_contract.stage import PublishSpec, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_contract.store_spec import StoreSpec
from atoll_stages.publish.stage import publish
from atoll_stages.runtime.context import StageContext, StageOutcome
from support.minimal_tflite import minimal_tflite

LABELS = ("note", "robot")
METRICS: dict[str, Any] = {
    "split": "test",
    "metrics": {"float": {"ap50": 0.92, "ap": 0.61, "apSmall": 0.2}, "int8": {"ap50": 0.9, "ap": 0.6, "perClass": {}}},
    "thresholds": {"note": 0.42},
}
GOLDEN = [{"name": "golden-0.png", "expected": [{"classId": 0, "score": 0.9, "box": [0.1, 0.2, 0.4, 0.5]}]}]
COMPILATION = {
    "target": "edgetpu",
    "compiled": True,
    "compilerVersion": "16.0.384591198",
    "minRuntimeVersion": 14,
    "mappedPercent": 97.6,
}

# How the outputs of what other targets compiled become boxes.
HEAD = b'{"anchors": [], "bins": 16}'
RKNN = {
    "target": "rknn",
    "compiled": True,
    "chip": "rk3566",
    "compilerVersion": "2.5.0",
    "mappedPercent": 98.2,
    "figures": {"ap50": 0.86, "ap": 0.5, "source": "simulator"},
}


def exported_run(
    store: Store,
    spec: StoreSpec,
    *,
    uid: str = "7b1e",
    compiled: bool = False,
    small: bool = False,
    targets: bool = False,
    **publish: Any,
) -> StageInput:
    """The input of a publish stage whose earlier stages' files lie in `store`; a model of its own for every run, and
    with `small` no more than a release must have. `targets`: rknn is compiled, and qnn is not; export has left the
    document on their outputs."""
    run = RunRef("local", "bccd", uid)
    files = {
        "model": ("unoptimized.tflite", minimal_tflite() + uid.encode()),
        "labels": ("map.pbtxt", format_label_map(LABELS).encode()),
        "metrics": ("metrics.json", json.dumps(METRICS).encode()),
        "mapping": ("edgetpu-report.json", b'{"predicted": true, "percent": 98.5}'),
        "golden": ("golden.json", json.dumps(GOLDEN).encode()),
        "golden-0.png": ("golden-0.png", b"\x89PNG not decoded here"),
        "report": ("report.html", b"<html></html>"),
    }
    if targets:
        files["detector"] = ("detector.json", HEAD)
    if small:
        files = {name: files[name] for name in ("model", "labels")}
    upstream = {str(Stage.EXPORT): tuple(_put(store, run, Stage.EXPORT, name, *file) for name, file in files.items())}
    if compiled:
        model = minimal_tflite(("edgetpu-custom-op", "TFLite_Detection_PostProcess"))
        upstream[str(Stage.COMPILE)] = (
            _put(store, run, Stage.COMPILE, "compiled", "model.tflite", model),
            _put(store, run, Stage.COMPILE, "compilation", "compilation.json", json.dumps(COMPILATION).encode()),
        )
    if targets:
        publish = {"targets": ("edgetpu", "rknn", "qnn"), **publish}
        known = upstream.get(str(Stage.COMPILE), ())
        upstream[str(Stage.COMPILE)] = (*known, *_other_targets(store, run))
    if small:
        return StageInput(Stage.PUBLISH, 1, run, spec, upstream, publish=PublishSpec(**_settings(publish)))
    best = store.put(f"runs/local/{uid}/train/checkpoints/best-00000100.weights.h5", b"best " + uid.encode())
    for step in (100, 200):
        store.put(f"runs/local/{uid}/train/checkpoints/step-{step:08d}.npz", b"state")
    upstream[str(Stage.TRAIN)] = (Artifact("weights", best.key, best.sha256 or "", best.size),)
    return StageInput(Stage.PUBLISH, 1, run, spec, upstream, publish=PublishSpec(**_settings(publish)))


def _other_targets(store: Store, run: RunRef) -> tuple[Artifact, ...]:
    put = partial(_put, store, run, f"{Stage.COMPILE}-rknn")
    qnn = {"target": "qnn", "compiled": False, "reason": "CompilerUnavailable"}
    return (
        put("rknn.compiled", "model-rk3566.rknn", b"code of a Rockchip NPU"),
        put("rknn.compilation", "compilation.json", json.dumps(RKNN).encode()),
        _put(store, run, f"{Stage.COMPILE}-qnn", "qnn.compilation", "compilation.json", json.dumps(qnn).encode()),
    )


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": "note", "channel": "stable", "version": 1, **given}


def publish_once(given: StageInput, store: Store, work: Path) -> StageOutcome:
    """One pass of the stage's work, in this process."""
    work.mkdir(parents=True, exist_ok=True)
    return publish(StageContext(given, store, work))


def with_version(given: StageInput, version: int) -> StageInput:
    assert given.publish is not None
    return replace(given, publish=replace(given.publish, version=version))


def publish_until_done(given: StageInput) -> int:
    """Publish as an engine without an API server does: on a conflict take the next version; the version it got."""
    store = open_store(given.store)
    while True:
        with TemporaryDirectory() as work:
            outcome = publish_once(given, store, Path(work))
        if outcome.reason is Reason.COMPLETED:
            return int(outcome.summary["version"])
        assert outcome.reason is Reason.VERSION_CONFLICT
        given = with_version(given, int(outcome.summary["nextVersion"]))


def _put(store: Store, run: RunRef, stage: str, name: str, file: str, data: bytes) -> Artifact:
    info = store.put(f"runs/{run.namespace}/{run.uid}/{stage}/a1-pod/{file}", data)
    assert info.sha256 is not None
    return Artifact(name, info.key, info.sha256, info.size)
