"""What a trained detector is worth on a part of a data set: the float model, and the int8 file as a run exports it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.train_spec import TrainSpec
from atoll_stages.export.bootstrap import ap50_interval, sample_ap50
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, ClassMatches, match_by_class
from atoll_stages.export.head_files import files_of
from atoll_stages.export.inference import ExportedModel
from atoll_stages.export.score_calibration import calibrate_file, calibrate_scores
from atoll_stages.train.dataset import Example, evenly_spaced
from atoll_stages.train.detections import Detections, FloatDetector
from atoll_stages.train.detector import build_detector
from atoll_stages.train.evaluate import MAX_DETECTIONS, evaluate
from atoll_stages.train.initial_weights import assign_weights
from support.quality_sets import Parts

CALIBRATION_PICTURES = 100
DIGITS = 4


@dataclass(frozen=True)
class TrainedCell:
    """The best averaged weights of a training, by path, and what the training took."""

    weights: dict[str, np.ndarray]
    steps: int
    seconds: int
    cpu_seconds: int

    def write(self, folder: Path, name: str) -> None:
        """Keeps the training under a name, so that another part can be measured without it."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.part.npz"
        np.savez(partial, **self.weights)  # type: ignore[arg-type]  # its own arguments come first in its types
        figures = {"steps": self.steps, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        (folder / f"{name}.json").write_text(json.dumps(figures))
        # Last, because it says that the training is there.
        partial.replace(folder / f"{name}.npz")

    @classmethod
    def read(cls, folder: Path, name: str) -> TrainedCell | None:
        """Returns the training that is kept under a name, or None."""
        path = folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return cls(dict(arrays), **json.loads((folder / f"{name}.json").read_text()))


@dataclass(frozen=True)
class Figures:
    """`interval` is that of AP50 in 19 of 20 cases; `thresholds` is the score of each class with the best F1 on the
    measured part, `f1` that of all classes at the score of .5, and `best_f1` that of the best scores."""

    ap50: float
    ap: float
    interval: tuple[float, float] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    f1: float | None = None
    best_f1: float | None = None

    def document(self) -> dict[str, Any]:
        """Returns the figures that there are, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items() if value not in (None, {})}


def measure_float(spec: TrainSpec, parts: Parts, measured: Sequence[Example], trained: TrainedCell) -> Figures:
    """Measures the float model."""
    side = spec.architecture.side
    model = build_detector(architecture=spec.architecture, width=spec.width, classes=len(parts.classes), side=side)
    assign_weights(model, trained.weights)
    detector = FloatDetector(model, spec.architecture, side=side, max_detections=MAX_DETECTIONS)
    detections = detector.detect_all(preprocess.decode(e.encoded, side) for e in measured)
    metrics = evaluate(examples=measured, detections=detections, classes=parts.classes, side=side)
    return Figures(metrics.ap50, metrics.ap)


def measure_int8(spec: TrainSpec, parts: Parts, measured: Sequence[Example], trained: TrainedCell) -> Figures:
    """Measures the int8 file, whose scores are shifted on the validation part as a run shifts them."""
    detections = ExportedModel(int8_file(spec, parts, trained)).detect_all(
        preprocess.decode(e.encoded, spec.architecture.side) for e in measured
    )
    return int8_figures(parts.classes, measured, detections, side=spec.architecture.side)


def int8_file(spec: TrainSpec, parts: Parts, trained: TrainedCell) -> bytes:
    side = spec.architecture.side
    model = build_detector(architecture=spec.architecture, width=spec.width, classes=len(parts.classes), side=side)
    assign_weights(model, trained.weights)
    pictures = [preprocess.decode(e.encoded, side) for e in evenly_spaced(parts.train, CALIBRATION_PICTURES)]
    validation = [preprocess.decode(e.encoded, side) for e in parts.validation]

    def convert() -> bytes:
        files = files_of(spec.architecture, max_detections=MAX_DETECTIONS)
        return files.int8(model, name="bench", labels=parts.classes, calibration=pictures)

    detector = FloatDetector(model, spec.architecture, side=side, max_detections=MAX_DETECTIONS)
    first = calibrate_scores("validation", parts.validation, detector.detect_all(validation), parts.classes)
    first.apply(model)
    data, _ = calibrate_file(
        model,
        first,
        convert=convert,
        choose=lambda file: calibrate_scores(
            "validation", parts.validation, ExportedModel(file).detect_all(validation), parts.classes
        ),
    )
    return data


def int8_figures(
    classes: Sequence[str], measured: Sequence[Example], detections: Sequence[Detections], *, side: int
) -> Figures:
    """Returns the figures of what was found in the measured part."""
    metrics = evaluate(examples=measured, detections=detections, classes=classes, side=side)
    matches = match_by_class(measured, detections, len(classes))
    best = calibrate_scores("measured", measured, detections, classes).scores
    return Figures(
        metrics.ap50,
        metrics.ap,
        ap50_interval(sample_ap50(measured, detections, classes), metrics.ap50),
        dict(zip(classes, best, strict=True)),
        f1_at([DEFAULT_THRESHOLD] * len(classes), matches),
        f1_at(best, matches),
    )


def f1_at(thresholds: Sequence[float], matches: Sequence[ClassMatches]) -> float:
    """Returns the F1 of all classes together, each at its threshold."""
    kept = [own.scores >= threshold for own, threshold in zip(matches, thresholds, strict=True)]
    right = sum(int(own.right[keep].sum()) for own, keep in zip(matches, kept, strict=True))
    found = sum(int(keep.sum()) for keep in kept)
    objects = sum(float(own.objects.sum()) for own in matches)
    return 2 * right / (found + objects) if found + objects else 0.0


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, DIGITS)
