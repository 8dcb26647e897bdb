"""The export stage: makes an int8 file of the best weights, evaluates it, and writes golden images and the report."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

import keras

from atoll_contract import __version__
from atoll_contract import images as preprocess
from atoll_contract.dataset import Dataset
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.images import Resize
from atoll_contract.stage import ExportSpec, Stage
from atoll_contract.stage_result import Artifact, Progress
from atoll_stages.export.converter import check_input, kept_detections
from atoll_stages.export.edgetpu_mapping import MappingReport, predict_mapping
from atoll_stages.export.evaluation import (
    DEFAULT_THRESHOLD,
    Gate,
    Measurement,
    check_gates,
    measure,
    metrics_document,
    stage_summary,
)
from atoll_stages.export.flatbuffer import operations
from atoll_stages.export.head_files import files_of, write_target_inputs
from atoll_stages.export.inference import ExportedModel
from atoll_stages.export.model_assessment import ModelAssessment, assess_model, outcome_message
from atoll_stages.export.reliability import MAX_TRAINING_IMAGES, Reliability, measure_reliability
from atoll_stages.export.report import Provenance, ReportData, render_report
from atoll_stages.export.sample_images import golden_candidate, select_images, write_golden_images
from atoll_stages.export.score_calibration import ScoreCalibration, calibrate_file, calibrate_scores
from atoll_stages.export.training_images import training_images
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.config import make_config
from atoll_stages.train.dataset import Example, Records, evenly_spaced, fetch_split, read_dataset
from atoll_stages.train.detections import Detections, Detector, FloatDetector, detect_examples
from atoll_stages.train.history import History
from atoll_stages.train.initial_weights import ModelInfo, load_detector

VALIDATION = "validation"
MODEL_NAME = "unoptimized.tflite"
METRICS_NAME = "metrics.json"
MAPPING_NAME = "edgetpu-report.json"
GOLDEN_NAME = "golden.json"
REPORT_NAME = "report.html"
MAX_REPORT_IMAGES = 6
MAX_GOLDEN_CANDIDATES = 100


def export(context: StageContext) -> StageOutcome:
    """Exports and evaluates the trained detector. If a gate fails, the outcome has its reason and keeps the outputs.

    Raises:
        AtollError: with the reason.
    """
    spec = context.input.export
    if spec is None:
        raise SpecError("the stage input has no section export")
    dataset = read_dataset(context)
    artifact = context.input.artifact(Stage.TRAIN, "weights")
    weights = context.fetch(artifact, context.work / "model.weights.h5")
    history = _read_history(context)
    wanted = ModelInfo(spec.train.architecture, spec.train.width, dataset.class_names)
    model, info = load_detector(weights, wanted, key=artifact.key)
    with (
        fetch_split(context, dataset, "train") as training,
        fetch_split(context, dataset, VALIDATION) as validation,
        _evaluation_examples(context, dataset, validation) as examples,
    ):
        kept = kept_detections(spec, training)
        session = ExportSession(
            context, spec, dataset, history, model, info, training=training, examples=examples, max_detections=kept
        )
        data, calibration = session.quantise(validation)
        measurement = session.measure(data)
        return session.finish(data, measurement, calibration, session.measure_reliability(data, measurement))


def _evaluation_examples(
    context: StageContext, dataset: Dataset, validation: Records
) -> AbstractContextManager[Records]:
    split = dataset.evaluation_split
    return nullcontext(validation) if split == VALIDATION else fetch_split(context, dataset, split)


def _read_history(context: StageContext) -> History:
    artifact = context.input.artifact(Stage.TRAIN, "history")
    path = context.fetch(artifact, context.work / "history.json")
    try:
        return from_json(History, path.read_bytes())
    except DecodeError as error:
        raise IntegrityError(f"{artifact.key} cannot be read: {error}") from None


@dataclass(frozen=True)
class ExportSession:
    """The steps of the stage, in their order, with one model.

    `training` and `examples` are those of the training and of the evaluation split; the exported file gives
    `max_detections` at most.
    """

    context: StageContext
    spec: ExportSpec
    dataset: Dataset
    history: History
    model: keras.Model
    info: ModelInfo
    training: Sequence[Example]
    examples: Sequence[Example]
    max_detections: int

    @property
    def side(self) -> int:
        return self.info.architecture.side

    @property
    def resize(self) -> Resize:
        return self.spec.train.resize

    @functools.cached_property
    def _float_detector(self) -> FloatDetector:
        return FloatDetector(self.model, self.info.architecture, side=self.side, max_detections=self.max_detections)

    def quantise(self, validation: Sequence[Example]) -> tuple[bytes, ScoreCalibration]:
        """Returns the checked int8 file, whose scores are shifted so that DEFAULT_THRESHOLD is right on validation."""

        def choose(detector: FloatDetector | ExportedModel, percent: int) -> ScoreCalibration:
            self.context.report(Progress(percent, message="choosing the threshold"))
            detections = self._detect(detector, validation)
            return calibrate_scores(VALIDATION, validation, detections, self.info.classes)

        calibration = choose(self._float_detector, 2)
        calibration.apply(self.model)
        return calibrate_file(
            self.model, calibration, convert=self._convert, choose=lambda data: choose(ExportedModel(data), 25)
        )

    def _convert(self) -> bytes:
        self.context.check_stop()
        self.context.report(Progress(10, message="quantising"))
        data = files_of(self.info.architecture, max_detections=self.max_detections).int8(
            self.model,
            name=self.spec.model or "detector",
            labels=self.info.classes,
            calibration=[preprocess.decode(e.encoded, self.side, self.resize) for e in self._calibration()],
            resize=self.resize,
        )
        check_input(ExportedModel(data).input)
        return data

    def measure(self, data: bytes) -> Measurement:
        """Evaluates the int8 file and the float model on the same images."""
        self.context.check_stop()
        split = self.dataset.evaluation_split
        self.context.report(Progress(35, message=f"measuring {len(self.examples)} pictures of {split}"))
        int8_detections = self._detect(ExportedModel(data), self.examples)
        self.context.report(Progress(65, message="measuring the float model"))
        return measure(
            split=split,
            classes=self.info.classes,
            side=self.side,
            examples=self.examples,
            float_detections=self._detect(self._float_detector, self.examples),
            int8_detections=int8_detections,
            resize=self.resize,
        )

    def measure_reliability(self, data: bytes, measurement: Measurement) -> Reliability:
        """Tries the file on some images of the training part, too, and says how sure the figures are."""
        self.context.report(Progress(80, message="measuring pictures of train"))
        training = evenly_spaced(self.training, MAX_TRAINING_IMAGES)
        detections = self._detect(ExportedModel(data), training)
        return measure_reliability(
            measurement,
            self.examples,
            training=training,
            training_detections=detections,
            side=self.side,
            resize=self.resize,
        )

    def finish(
        self, data: bytes, measurement: Measurement, calibration: ScoreCalibration, reliability: Reliability
    ) -> StageOutcome:
        """Checks the gates, and stores the file, its documents, the golden images and the report."""
        self.context.report(Progress(85, message="writing the report"))
        mapping = predict_mapping(operations(data), size=len(data))
        float_metrics, int8_metrics = measurement.float_metrics, measurement.int8_metrics
        gates = list(
            check_gates(self.spec.quality, float_metrics=float_metrics, int8_metrics=int8_metrics, mapping=mapping)
        )
        assessment = assess_model(measurement, gates)
        report = render_report(
            self._report_data(
                measurement,
                assessment,
                mapping,
                gates,
                calibration=calibration,
                reliability=reliability,
                model_bytes=len(data),
            )
        )
        metrics = metrics_document(
            measurement,
            interval=reliability.interval,
            scores_before=calibration.scores,
            reliability=reliability.document(),
        )
        label_map = self.dataset.label_map
        outputs = (
            self._save("model", MODEL_NAME, data),
            Artifact("labels", label_map.key, label_map.sha256, label_map.size),
            self._save("metrics", METRICS_NAME, to_json(metrics)),
            self._save("mapping", MAPPING_NAME, to_json(mapping)),
            *self._save_golden(measurement),
            self._save("report", REPORT_NAME, report.encode()),
            *(self._save_target_inputs() if self.spec.for_targets else ()),
        )
        failed = [gate.describe() for gate in gates if not gate.passed]
        return StageOutcome(
            message=outcome_message(assessment, failed, measurement, mapping, reliability),
            outputs=outputs,
            summary=stage_summary(
                measurement,
                mapping,
                assessment=assessment.sentence,
                images=reliability.images,
                interval=reliability.interval,
            ),
            reason=Reason.QUALITY_GATE_FAILED if failed else Reason.COMPLETED,
        )

    def _report_data(
        self,
        measurement: Measurement,
        assessment: ModelAssessment,
        mapping: MappingReport,
        gates: Sequence[Gate],
        *,
        calibration: ScoreCalibration,
        reliability: Reliability,
        model_bytes: int,
    ) -> ReportData:
        history = self.history
        config = make_config(self.spec.train, classes=len(self.info.classes), dataset_digest=self.dataset.digest)
        run, model = self.context.input.run.name, self.spec.model or ""
        return ReportData(
            provenance=Provenance(run, model, created=datetime.now(UTC), version=__version__),
            dataset=self.dataset,
            history=history,
            measurement=measurement,
            assessment=assessment,
            mapping=mapping,
            gates=gates,
            calibration=calibration,
            reliability=reliability,
            selection=select_images(
                self.examples,
                measurement.detections,
                thresholds=[DEFAULT_THRESHOLD] * len(measurement.classes),
                max_images=MAX_REPORT_IMAGES,
            ),
            examples=self.examples,
            training=self.training,
            training_images=training_images(self.training, config),
            model_bytes=model_bytes,
            side=self.side,
            settings={"start weights": history.start, "parameters": f"{history.parameters:,}", **history.settings},
        )

    def _save_golden(self, measurement: Measurement) -> Iterator[Artifact]:
        chosen = evenly_spaced(range(len(self.examples)), MAX_GOLDEN_CANDIDATES)
        images = [golden_candidate(self.examples[i], self.side, self.resize) for i in chosen]
        entries = write_golden_images(self.context.work, images, [measurement.detections[i] for i in chosen])
        yield self._save("golden", GOLDEN_NAME, to_json(entries))
        for entry in entries:
            yield self.context.save(entry.name, self.context.work / entry.name)

    def _save_target_inputs(self) -> Iterator[Artifact]:
        images = [example.encoded for example in self._calibration()]
        written = write_target_inputs(
            self.context.work,
            self.model,
            self.info,
            calibration=images,
            max_detections=self.max_detections,
            resize=self.resize,
        )
        for name, path in written.items():
            yield self.context.save(name, path)

    def _calibration(self) -> Sequence[Example]:
        return evenly_spaced(self.training, self.spec.calibration_pictures)

    def _save(self, artifact: str, name: str, data: bytes) -> Artifact:
        path = self.context.work / name
        path.write_bytes(data)
        return self.context.save(artifact, path)

    def _detect(self, detector: Detector, examples: Sequence[Example]) -> list[Detections]:
        return detect_examples(detector, self._until_stopped(examples), side=self.side, resize=self.resize)

    def _until_stopped(self, examples: Sequence[Example]) -> Iterator[Example]:
        for example in examples:
            self.context.check_stop()
            yield example
