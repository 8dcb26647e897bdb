"""Detections against labels at IoU .5, one picture at a time: what was right, what was wrong, what was missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll_contract.stage import QualityGates
from atoll_stages.export.edgetpu_mapping import MappingReport
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import Metrics, evaluate

MATCH_IOU = 0.5
NONE = -1


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of corner boxes (n, 4) with (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=-1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=-1)[None]
    result: np.ndarray = inner / np.maximum(areas - inner, 1e-9)
    return result


@dataclass(frozen=True)
class Pairing:
    """`partner` of each detection: the index of its label, -1 for none; `missed`: labels without a detection."""

    partner: np.ndarray
    missed: np.ndarray


def pair(found: Detections, example: Example, *, same_class: bool) -> Pairing:
    """Best score first, each detection takes the free label it overlaps most, from MATCH_IOU on."""
    iou = overlaps(found.boxes, example.boxes)
    if same_class:
        iou = np.where(found.classes[:, None] == example.labels[None], iou, 0.0)
    partner = np.full(len(found), NONE)
    free = np.ones(len(example.labels), bool)
    for i in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free, iou[i], 0.0)
        if candidates.size and candidates.max() >= MATCH_IOU:
            partner[i] = int(candidates.argmax())
            free[partner[i]] = False
    return Pairing(partner, np.flatnonzero(free))


def above(found: Detections, thresholds: Sequence[float]) -> Detections:
    """The detections at or above their class's threshold."""
    limits = np.asarray(thresholds, np.float32)[found.classes]
    keep = found.scores >= limits
    return Detections(found.boxes[keep], found.classes[keep], found.scores[keep])


# Where a class has nothing to learn a threshold from.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Curve:
    """One class: recall and precision as the threshold falls, and the threshold with the best F1 with its figures."""

    name: str
    objects: int
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    threshold: float
    best_recall: float
    best_precision: float


def _curve(name: str, scores: np.ndarray, right: np.ndarray, objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    if not objects or not len(scores) or not hits[-1]:
        return Curve(name, objects, (), (), DEFAULT_THRESHOLD, 0.0, 0.0)
    recall, precision = hits / objects, hits / np.arange(1, len(hits) + 1)
    best = int(np.argmax(2 * recall * precision / np.maximum(recall + precision, 1e-9)))
    # Half-way to the next score, so that the same object seen a little less surely still counts.
    following = scores[best + 1] if best + 1 < len(scores) else 0.0
    return Curve(
        name=name,
        objects=objects,
        recall=tuple(recall.tolist()),
        precision=tuple(precision.tolist()),
        threshold=round(float(scores[best] + following) / 2, 3),
        best_recall=float(recall[best]),
        best_precision=float(precision[best]),
    )


def precision_recall(
    examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str]
) -> list[Curve]:
    """One curve for each class, in their order."""
    scores: list[list[float]] = [[] for _ in classes]
    right: list[list[bool]] = [[] for _ in classes]
    objects = np.zeros(len(classes), int)
    for example, found in zip(examples, detections, strict=True):
        pairing = pair(found, example, same_class=True)
        np.add.at(objects, example.labels, 1)
        for label, score, partner in zip(found.classes, found.scores, pairing.partner, strict=True):
            scores[label].append(float(score))
            right[label].append(partner != NONE)
    return [
        _curve(name, np.array(scores[i]), np.array(right[i], bool), int(objects[i])) for i, name in enumerate(classes)
    ]


def confusion(
    examples: Sequence[Example], detections: Sequence[Detections], *, thresholds: Sequence[float]
) -> np.ndarray:
    """Counts at the thresholds: rows are what was there, columns what was seen; the last of each is "nothing"."""
    count = len(thresholds)
    table = np.zeros((count + 1, count + 1), int)
    for example, found in zip(examples, detections, strict=True):
        kept = above(found, thresholds)
        pairing = pair(kept, example, same_class=False)
        for label, partner in zip(kept.classes, pairing.partner, strict=True):
            table[count if partner == NONE else example.labels[partner], label] += 1
        for index in pairing.missed:
            table[example.labels[index], count] += 1
    return table


@dataclass(frozen=True)
class Measurement:
    """Figures on the evaluation split. Curves, thresholds and confusion are the exported file's."""

    split: str
    classes: tuple[str, ...]
    exact: Metrics
    quantised: Metrics
    curves: tuple[Curve, ...]
    confusion: np.ndarray
    detections: tuple[Detections, ...]

    @property
    def thresholds(self) -> dict[str, float]:
        return {curve.name: curve.threshold for curve in self.curves}


def measure(
    *,
    split: str,
    classes: Sequence[str],
    side: int,
    examples: Sequence[Example],
    exact: Sequence[Detections],
    quantised: Sequence[Detections],
) -> Measurement:
    """Compare what both found with the labels."""
    curves = precision_recall(examples, quantised, classes)
    return Measurement(
        split=split,
        classes=tuple(classes),
        exact=evaluate(examples=examples, detections=exact, classes=classes, side=side),
        quantised=evaluate(examples=examples, detections=quantised, classes=classes, side=side),
        curves=tuple(curves),
        confusion=confusion(examples, quantised, thresholds=[curve.threshold for curve in curves]),
        detections=tuple(quantised),
    )


DIGITS = 4
MOST_CLASSES = 40


def figures(metrics: Metrics) -> dict[str, Any]:
    """The figures of one model in the form that all documents have."""
    found: dict[str, Any] = {"ap50": round(metrics.ap50, DIGITS), "ap": round(metrics.ap, DIGITS)}
    if metrics.ap_small is not None:
        found["apSmall"] = round(metrics.ap_small, DIGITS)
    found["perClass"] = {name: round(value, DIGITS) for name, value in metrics.per_class.items()}
    return found


def metrics_document(measurement: Measurement) -> dict[str, Any]:
    """`metrics.json`. `recall` is that of each class at its threshold."""
    return {
        "split": measurement.split,
        "metrics": {"float": figures(measurement.exact), "int8": figures(measurement.quantised)},
        "thresholds": measurement.thresholds,
        "recall": {curve.name: round(curve.best_recall, DIGITS) for curve in measurement.curves},
    }


def outcome_summary(measurement: Measurement, mapping: MappingReport) -> dict[str, Any]:
    """The stage's summary: short enough for the termination message."""
    exact, quantised = figures(measurement.exact), figures(measurement.quantised)
    per_class = dict(list(quantised["perClass"].items())[:MOST_CLASSES])
    return {
        "metrics": {
            "float": {"ap50": exact["ap50"], "ap": exact["ap"]},
            "int8": {"ap50": quantised["ap50"], "ap": quantised["ap"], "perClass": per_class},
        },
        "predictedMappedPercent": mapping.percent,
        "split": measurement.split,
    }


# AP is a mean over pictures; a float's last digits must not decide.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Gate:
    """One gate: what it asks, what was measured, and whether that is enough."""

    name: str
    limit: float
    measured: float
    passed: bool

    def words(self) -> str:
        side = "at most" if self.name == "maxAP50Drop" else "at least"
        return f"{self.name}: measured {self.measured:.4g}, must be {side} {self.limit:g}"


def check_gates(gates: QualityGates, *, exact: Metrics, quantised: Metrics, mapping: MappingReport) -> Iterator[Gate]:
    """Every gate that the run sets. `exact` is the float model, `quantised` the exported file."""
    if gates.min_ap50 is not None:
        enough = quantised.ap50 >= gates.min_ap50 - ROUNDING
        yield Gate("minAP50", gates.min_ap50, quantised.ap50, enough)
    if gates.max_ap50_drop is not None:
        drop = exact.ap50 - quantised.ap50
        yield Gate("maxAP50Drop", gates.max_ap50_drop, drop, drop <= gates.max_ap50_drop + ROUNDING)
    if gates.min_mapped_percent is not None:
        enough = mapping.percent >= gates.min_mapped_percent - ROUNDING
        yield Gate("minMappedPercent", gates.min_mapped_percent, mapping.percent, enough)
