"""The exported file and the float model, measured side by side on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll_stages.export.curves import Curve, confusion, precision_recall
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import Metrics, evaluate
from atoll_stages.train.records import Example


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
