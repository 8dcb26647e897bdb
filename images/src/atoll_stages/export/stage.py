"""The export stage: from the best weights to a measured int8 file, golden pictures and the report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.dataset import Dataset
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError, Reason, SpecError, bounded
from atoll_contract.stage import ExportSpec, Stage
from atoll_contract.stage_result import Artifact, Progress
from atoll_stages.export.converter import POSTPROCESS, Postprocess, check_input, convert
from atoll_stages.export.edgetpu_mapping import MappingReport, predict
from atoll_stages.export.evaluation import Gate, Measurement, check_gates, measure, metrics_document, outcome_summary
from atoll_stages.export.flatbuffer import fix_outputs, operations
from atoll_stages.export.float_model import detect_float, load_float
from atoll_stages.export.inference import Exported
from atoll_stages.export.report import ReportData, render
from atoll_stages.export.sample_images import select, write_golden
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.anchors import anchors_for
from atoll_stages.train.dataset import Example, Records
from atoll_stages.train.history import History
from atoll_stages.train.initial_weights import About
from atoll_stages.train.loop import thinned
from atoll_stages.train.stage import fetch_split, read_dataset

logger = logging.getLogger(__name__)

MODEL_NAME = "unoptimized.tflite"
METRICS_NAME = "metrics.json"
MAPPING_NAME = "edgetpu-report.json"
GOLDEN_NAME = "golden.json"
REPORT_NAME = "report.html"
# The post-processing op runs on the device's CPU at every frame, so it keeps no more than the data can need.
MOST_DETECTIONS = 100
SHOWN_PICTURES = 6


def detections_kept(spec: ExportSpec, examples: Sequence[Example]) -> int:
    """How many detections the file gives: the run's number, or twice the busiest training picture's objects."""
    busiest = max((len(e.labels) for e in examples), default=0)
    return min(MOST_DETECTIONS, max(spec.max_detections, 2 * busiest))


def export(context: StageContext) -> StageOutcome:
    """Export and judge the trained detector. A failed gate is an outcome with its reason: outputs and report stay.

    Raises:
        AtollError: with the reason.
    """
    spec = context.input.export
    if spec is None:
        raise SpecError("the stage input has no section export")
    dataset = read_dataset(context)
    weights = context.fetch(context.input.artifact(Stage.TRAIN, "weights"), context.work / "model.weights.h5")
    history = _read_history(context)
    model, about = load_float(weights, spec.train.architecture)
    split = dataset.evaluation_split
    with fetch_split(context, dataset, "train") as training, fetch_split(context, dataset, split) as examples:
        context.report(Progress(5, message="quantising"))
        kept = detections_kept(spec, training)
        data = _quantise(model, about, spec, training=training, kept=kept)
        context.check_stop()
        context.report(Progress(35, message=f"measuring {len(examples)} pictures of {split}"))
        measurement = _measure(context, model, data, about, examples=examples, split=split, kept=kept)
        return _finish(context, spec, dataset, history, data, measurement, examples=examples, about=about)


def _read_history(context: StageContext) -> History:
    artifact = context.input.artifact(Stage.TRAIN, "history")
    path = context.fetch(artifact, context.work / "history.json")
    try:
        return from_json(History, path.read_bytes())
    except DecodeError as error:
        raise IntegrityError(f"{artifact.key} cannot be read: {error}") from None


def _quantise(model: keras.Model, about: About, spec: ExportSpec, *, training: Records, kept: int) -> bytes:
    """The checked int8 file."""
    side = about.architecture.side
    calibration = [preprocess.decode(e.encoded, side) for e in thinned(training, spec.calibration_pictures)]
    raw = convert(
        model,
        anchors=anchors_for(about.architecture),
        side=side,
        post=Postprocess(max_detections=kept, classes=len(about.classes)),
        calibration=calibration,
    )
    data = fix_outputs(raw, operation=POSTPROCESS)
    check_input(Exported(data).input)
    return data


def _pictures(examples: Sequence[Example], side: int, context: StageContext) -> Iterator[np.ndarray]:
    for example in examples:
        context.check_stop()
        yield preprocess.decode(example.encoded, side)


def _measure(
    context: StageContext,
    model: keras.Model,
    data: bytes,
    about: About,
    *,
    examples: Sequence[Example],
    split: str,
    kept: int,
) -> Measurement:
    side = about.architecture.side
    quantised = Exported(data).detect_all(_pictures(examples, side, context))
    context.report(Progress(65, message="measuring the float model"))
    exact = detect_float(model, about.architecture, _pictures(examples, side, context), most=kept)
    return measure(split=split, classes=about.classes, side=side, examples=examples, exact=exact, quantised=quantised)


@dataclass(frozen=True)
class _Files:
    """Where the stage's documents lie before they are stored."""

    folder: Path

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


def _finish(
    context: StageContext,
    spec: ExportSpec,
    dataset: Dataset,
    history: History,
    data: bytes,
    measurement: Measurement,
    *,
    examples: Sequence[Example],
    about: About,
) -> StageOutcome:
    context.report(Progress(85, message="writing the report"))
    mapping = predict(operations(data), size=len(data))
    gates = tuple(check_gates(spec.quality, exact=measurement.exact, quantised=measurement.quantised, mapping=mapping))
    page = _report(
        context, dataset, history, measurement, mapping, gates, examples=examples, size=len(data), about=about
    )
    files = _Files(context.work)
    outputs = [
        context.save("model", files.write(MODEL_NAME, data)),
        Artifact("labels", dataset.label_map.key, dataset.label_map.sha256, dataset.label_map.size),
        context.save("metrics", files.write(METRICS_NAME, to_json(metrics_document(measurement)))),
        context.save("mapping", files.write(MAPPING_NAME, to_json(mapping))),
        *_golden(context, files, measurement, examples=examples, about=about),
        context.save("report", files.write(REPORT_NAME, page.encode())),
    ]
    return _outcome(measurement, mapping, gates, outputs)


def _report(
    context: StageContext,
    dataset: Dataset,
    history: History,
    measurement: Measurement,
    mapping: MappingReport,
    gates: Sequence[Gate],
    *,
    examples: Sequence[Example],
    size: int,
    about: About,
) -> str:
    thresholds = [curve.threshold for curve in measurement.curves]
    return render(
        ReportData(
            run=context.input.run.name,
            dataset=dataset,
            history=history,
            measurement=measurement,
            mapping=mapping,
            gates=gates,
            selection=select(examples, measurement.detections, thresholds=thresholds, most=SHOWN_PICTURES),
            examples=examples,
            model_bytes=size,
            side=about.architecture.side,
            settings={"start weights": history.start, "parameters": f"{history.parameters:,}", **history.settings},
        )
    )


def _golden(
    context: StageContext,
    files: _Files,
    measurement: Measurement,
    *,
    examples: Sequence[Example],
    about: About,
) -> Iterator[Artifact]:
    chosen = thinned(range(len(examples)), MOST_DETECTIONS)
    pictures = [preprocess.decode(examples[i].encoded, about.architecture.side) for i in chosen]
    entries = write_golden(files.folder, pictures, [measurement.detections[i] for i in chosen])
    yield context.save("golden", files.write(GOLDEN_NAME, to_json(entries)))
    for entry in entries:
        yield context.save(entry.name, files.folder / entry.name)


def _outcome(
    measurement: Measurement, mapping: MappingReport, gates: Sequence[Gate], outputs: Sequence[Artifact]
) -> StageOutcome:
    failed = [gate.words() for gate in gates if not gate.passed]
    message = (
        f"int8 AP50 {measurement.quantised.ap50:.3f} (float {measurement.exact.ap50:.3f}) on {measurement.split}, "
        f"{mapping.percent}% of operations predicted on the Edge TPU"
    )
    return StageOutcome(
        message=bounded("; ".join(failed) + f" ({message})") if failed else message,
        outputs=tuple(outputs),
        summary=outcome_summary(measurement, mapping),
        reason=Reason.QUALITY_GATE_FAILED if failed else Reason.COMPLETED,
    )
