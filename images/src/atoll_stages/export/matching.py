"""Detections against labels at IoU .5, one picture at a time: what was right, what was wrong, what was missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll_stages.train.detections import Detections
from atoll_stages.train.records import Example

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
