"""Evaluation of the exported file: metrics, curves and thresholds, confusion, quality gates, and their documents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from atoll_contract.images import Resize
from atoll_contract.stage import QualityGates
from atoll_stages.export.edgetpu_mapping import MappingReport
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections, iou_matrix
from atoll_stages.train.evaluate import Metrics, evaluate

MATCH_IOU = 0.5
UNMATCHED = -1
# The threshold of every class: export shifts the scores so that it is the right one (`score_calibration`).
DEFAULT_THRESHOLD = 0.5
DIGITS = 4
MAX_SUMMARY_CLASSES = 40
# AP is a mean over images; a float's last digits must not decide.
GATE_TOLERANCE = 1e-9
# Packages whose versions decide what a training makes.
TOOLS = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "ai-edge-litert")


@dataclass(frozen=True)
class Curve:
    """One class: recall and precision as the threshold falls over `scores`.

    `found` detections have DEFAULT_THRESHOLD or more, and `right` of them are right. Without any right detection there
    are no points.
    """

    name: str
    objects: int
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    found: int
    right: int
    scores: tuple[float, ...] = ()

    @property
    def threshold_recall(self) -> float:
        return self.right / self.objects if self.objects else 0.0

    @property
    def threshold_precision(self) -> float:
        return self.right / self.found if self.found else 0.0


@dataclass(frozen=True)
class Measurement:
    """Figures on the evaluation split. Curves, confusion and detections are the exported int8 file's."""

    split: str
    classes: tuple[str, ...]
    float_metrics: Metrics
    int8_metrics: Metrics
    curves: tuple[Curve, ...]
    confusion: np.ndarray
    detections: tuple[Detections, ...]

    @property
    def thresholds(self) -> dict[str, float]:
        return {curve.name: DEFAULT_THRESHOLD for curve in self.curves}


def measure(
    *,
    split: str,
    classes: Sequence[str],
    side: int,
    examples: Sequence[Example],
    float_detections: Sequence[Detections],
    int8_detections: Sequence[Detections],
    resize: Resize = Resize.SQUASH,
) -> Measurement:
    """Compares what both models found with the labels. `side` is their input side in pixels, to which images come as
    `resize` says."""

    def metrics(detections: Sequence[Detections]) -> Metrics:
        return evaluate(examples=examples, detections=detections, classes=classes, side=side, resize=resize)

    curves = precision_recall(examples, int8_detections, classes)
    return Measurement(
        split=split,
        classes=tuple(classes),
        float_metrics=metrics(float_detections),
        int8_metrics=metrics(int8_detections),
        curves=tuple(curves),
        confusion=confusion_matrix(examples, int8_detections, thresholds=[DEFAULT_THRESHOLD] * len(classes)),
        detections=tuple(int8_detections),
    )


def precision_recall(
    examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str]
) -> list[Curve]:
    """Returns one curve for each class, in their order."""
    found = match_by_class(examples, detections, len(classes))
    return [_curve(name, own) for name, own in zip(classes, found, strict=True)]


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, best score first: scores, whether each is right, and the index of its image; and
    the number of objects in each image."""

    scores: np.ndarray
    right: np.ndarray
    images: np.ndarray
    objects: np.ndarray


def match_by_class(examples: Sequence[Example], detections: Sequence[Detections], classes: int) -> list[ClassMatches]:
    """Returns what was found of each class, in their order."""
    objects = np.zeros((classes, len(examples)))
    labels, scores, right, images = [], [], [], []
    for index, (example, found) in enumerate(zip(examples, detections, strict=True)):
        np.add.at(objects[:, index], example.labels, 1)
        labels.append(found.classes)
        scores.append(found.scores)
        right.append(match_labels(found, example, same_class=True).matched)
        images.append(np.full(len(found), index))
    columns = [np.concatenate(parts or [np.zeros(0)]) for parts in (labels, scores, right, images)]
    order = np.argsort(-columns[1], kind="stable")
    all_labels, all_scores, all_right, all_images = (column[order] for column in columns)
    own = [all_labels == label for label in range(classes)]
    return [
        ClassMatches(
            all_scores[mine].astype(float), all_right[mine].astype(bool), all_images[mine].astype(int), objects[label]
        )
        for label, mine in enumerate(own)
    ]


def _curve(name: str, matches: ClassMatches) -> Curve:
    scores, hits, objects = matches.scores, np.cumsum(matches.right), int(matches.objects.sum())
    found = int(np.sum(scores >= DEFAULT_THRESHOLD))
    if not objects or not len(scores) or not hits[-1]:
        return Curve(name, objects, (), (), found, 0)
    recall, precision = hits / objects, hits / np.arange(1, len(hits) + 1)
    return Curve(
        name=name,
        objects=objects,
        recall=tuple(recall.tolist()),
        precision=tuple(precision.tolist()),
        found=found,
        right=int(hits[found - 1]) if found else 0,
        scores=tuple(scores.tolist()),
    )


def confusion_matrix(
    examples: Sequence[Example], detections: Sequence[Detections], *, thresholds: Sequence[float]
) -> np.ndarray:
    """Counts at the thresholds: rows are labels, columns detections; the last of each means `no object`."""
    count = len(thresholds)
    matrix = np.zeros((count + 1, count + 1), int)
    for example, found in zip(examples, detections, strict=True):
        kept = above_threshold(found, thresholds)
        matches = match_labels(kept, example, same_class=False)
        for detected, index in zip(kept.classes, matches.label_index, strict=True):
            matrix[count if index == UNMATCHED else example.labels[index], detected] += 1
        for index in matches.missed:
            matrix[example.labels[index], count] += 1
    return matrix


@dataclass(frozen=True)
class LabelMatches:
    """The index of each detection's label, or UNMATCHED, and the indices of the labels that no detection matches."""

    label_index: np.ndarray
    missed: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """(detections,) of bool."""
        matched: np.ndarray = self.label_index != UNMATCHED
        return matched


def match_labels(detections: Detections, example: Example, *, same_class: bool) -> LabelMatches:
    """Matches each detection, best score first, to the unmatched label of the highest IoU from MATCH_IOU on."""
    iou = iou_matrix(detections.boxes, example.boxes)
    if same_class:
        iou = np.where(detections.classes[:, None] == example.labels[None], iou, 0.0)
    label_index = np.full(len(detections), UNMATCHED)
    free = np.ones(len(example.labels), bool)
    for i in np.argsort(-detections.scores, kind="stable"):
        candidates = np.where(free, iou[i], 0.0)
        if candidates.size and candidates.max() >= MATCH_IOU:
            label_index[i] = int(np.argmax(candidates))
            free[label_index[i]] = False
    return LabelMatches(label_index, np.flatnonzero(free))


def above_threshold(detections: Detections, thresholds: Sequence[float]) -> Detections:
    """Returns the detections whose score reaches the threshold of their class."""
    keep = detections.scores >= np.asarray(thresholds, np.float32)[detections.classes]
    return Detections(detections.boxes[keep], detections.classes[keep], detections.scores[keep])


@dataclass(frozen=True)
class Gate:
    """One quality gate: its limit, the measured value, and whether that is good enough."""

    name: str
    limit: float
    measured: float
    passed: bool

    def describe(self) -> str:
        side = "at most" if self.name == "maxAP50Drop" else "at least"
        return f"{self.name}: measured {self.measured_text}, must be {side} {self.limit:g}"

    @property
    def measured_text(self) -> str:
        """The measured value with the digits that the documents have, never as a power of ten."""
        return f"{round(self.measured, DIGITS):g}"


def check_gates(
    gates: QualityGates, *, float_metrics: Metrics, int8_metrics: Metrics, mapping: MappingReport
) -> Iterator[Gate]:
    """Yields every gate that the run sets."""
    if gates.min_ap50 is not None:
        passed = int8_metrics.ap50 >= gates.min_ap50 - GATE_TOLERANCE
        yield Gate("minAP50", gates.min_ap50, int8_metrics.ap50, passed)
    if gates.max_ap50_drop is not None:
        drop = float_metrics.ap50 - int8_metrics.ap50
        yield Gate("maxAP50Drop", gates.max_ap50_drop, drop, drop <= gates.max_ap50_drop + GATE_TOLERANCE)
    if gates.min_mapped_percent is not None:
        passed = mapping.percent >= gates.min_mapped_percent - GATE_TOLERANCE
        yield Gate("minMappedPercent", gates.min_mapped_percent, mapping.percent, passed)


def metrics_dict(metrics: Metrics) -> dict[str, Any]:
    """Returns the metrics of one model in the form that all documents have (docs/contract.md)."""
    document: dict[str, Any] = {"ap50": round(metrics.ap50, DIGITS), "ap": round(metrics.ap, DIGITS)}
    if metrics.ap_small is not None:
        document["apSmall"] = round(metrics.ap_small, DIGITS)
    document["perClass"] = {name: round(value, DIGITS) for name, value in metrics.per_class.items()}
    return document


def metrics_document(
    measurement: Measurement,
    *,
    interval: tuple[float, float] | None,
    scores_before: Sequence[float],
    reliability: dict[str, Any],
) -> dict[str, Any]:
    """Returns `metrics.json`: `recall` of each class at its threshold, and the score that became the threshold.

    `interval` is that of the int8 file's AP50, `reliability` further entries.
    """
    return {
        **reliability,
        "split": measurement.split,
        "metrics": {"float": metrics_dict(measurement.float_metrics), "int8": _with_interval(measurement, interval)},
        "thresholds": measurement.thresholds,
        "scoresBefore": dict(zip(measurement.classes, [round(score, DIGITS) for score in scores_before], strict=True)),
        "recall": {curve.name: round(curve.threshold_recall, DIGITS) for curve in measurement.curves},
        "tools": tool_versions(),
    }


def tool_versions() -> dict[str, str]:
    """Returns the versions of the packages that trained and converted the model."""
    found = {}
    for name in TOOLS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _with_interval(measurement: Measurement, interval: tuple[float, float] | None) -> dict[str, Any]:
    """Returns the int8 file's metrics, with the 95 % interval of AP50 where there is one."""
    document = metrics_dict(measurement.int8_metrics)
    return {**document, "ap50Interval": [round(border, DIGITS) for border in interval]} if interval else document


def stage_summary(
    measurement: Measurement,
    mapping: MappingReport,
    *,
    assessment: str,
    images: int,
    interval: tuple[float, float] | None,
) -> dict[str, Any]:
    """Returns the stage's summary, which is short enough for the termination message."""
    float_metrics, int8_metrics = metrics_dict(measurement.float_metrics), _with_interval(measurement, interval)
    per_class = dict(list(int8_metrics["perClass"].items())[:MAX_SUMMARY_CLASSES])
    int8_metrics.pop("apSmall", None)
    return {
        "metrics": {
            "float": {"ap50": float_metrics["ap50"], "ap": float_metrics["ap"]},
            "int8": {**int8_metrics, "perClass": per_class},
            "pictures": images,
        },
        "predictedMappedPercent": mapping.percent,
        "split": measurement.split,
        "assessment": assessment,
    }
