"""COCO figures of detections against the labels, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

# COCO's area classes are in pixels of its own pictures; here they are counted in pixels of the network's input.
SMALL_AREA = 32**2
MEDIUM_AREA = 96**2
MOST_DETECTIONS = 100
_IOU_50 = 0


@dataclass(frozen=True)
class Metrics:
    """AP over IoU .50…95 (`ap`), at .50 (`ap50`), of objects below 32² pixels of input (None: there are none),
    and AP50 of each class that occurs."""

    ap50: float
    ap: float
    ap_small: float | None
    per_class: dict[str, float] = field(default_factory=dict)


def _truth(examples: Sequence[Example], classes: Sequence[str], side: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for picture, example in enumerate(examples, start=1):
        for box, label in zip(example.boxes, example.labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": int(label) + 1,
                    "bbox": _xywh(box, side),
                    "area": float((box[2] - box[0]) * (box[3] - box[1]) * side * side),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {},
        "images": [{"id": i, "width": side, "height": side} for i in range(1, len(examples) + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }


def _xywh(box: np.ndarray, side: int) -> list[float]:
    ymin, xmin, ymax, xmax = (float(v) * side for v in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _rows(detections: Sequence[Detections], side: int) -> list[dict[str, Any]]:
    return [
        {
            "image_id": picture,
            "category_id": int(label) + 1,
            "bbox": _xywh(box, side),
            "score": float(score),
        }
        for picture, found in enumerate(detections, start=1)
        for box, label, score in zip(found.boxes, found.classes, found.scores, strict=True)
    ]


def _mean(values: np.ndarray) -> float | None:
    """Of what pycocotools counted; -1 there says that the class or size does not occur."""
    real = values[values > -1]
    return float(real.mean()) if real.size else None


def evaluate(
    *, examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str], side: int
) -> Metrics:
    """The figures of `detections`, one entry per example, for a network of this input side."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # pycocotools prints its progress; a stage's standard output is for its own.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _truth(examples, classes, side)
        truth.createIndex()
        rows = _rows(detections, side)
        if not rows:
            return _nothing_found(truth, classes)
        run = COCOeval(truth, truth.loadRes(rows), "bbox")
        run.params.maxDets = [1, 10, MOST_DETECTIONS]
        run.params.areaRng = [[0, 1e10], [0, SMALL_AREA], [SMALL_AREA, MEDIUM_AREA], [MEDIUM_AREA, 1e10]]
        run.evaluate()
        run.accumulate()
    # precision: (IoU thresholds, recalls, classes, area ranges, detection limits)
    precision = run.eval["precision"][..., -1]
    per_class = {name: _mean(precision[_IOU_50, :, i, 0]) for i, name in enumerate(classes)}
    return Metrics(
        ap50=_mean(precision[_IOU_50, :, :, 0]) or 0.0,
        ap=_mean(precision[..., 0]) or 0.0,
        ap_small=_mean(precision[..., 1]),
        per_class={name: value for name, value in per_class.items() if value is not None},
    )


def _nothing_found(truth: Any, classes: Sequence[str]) -> Metrics:
    present = {classes[a["category_id"] - 1] for a in truth.dataset["annotations"]}
    return Metrics(ap50=0.0, ap=0.0, ap_small=None, per_class={name: 0.0 for name in classes if name in present})
