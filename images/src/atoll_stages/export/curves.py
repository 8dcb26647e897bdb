"""Precision and recall of each class over all thresholds, the threshold to use, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll_stages.export.matching import NONE, above, pair
from atoll_stages.train.detections import Detections
from atoll_stages.train.records import Example

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
