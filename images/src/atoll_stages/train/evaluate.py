"""COCO metrics of detections against the labels, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atoll_contract.images import Resize
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

# COCO's area classes are in pixels of its own images; here they are counted in pixels of the network's input.
SMALL_AREA = 32**2
MEDIUM_AREA = 96**2
MAX_DETECTIONS = 100
_IOU_50 = 0
# The height and width of an image in pixels of the input.
Size = tuple[float, float]


@dataclass(frozen=True)
class Metrics:
    """AP50, AP over IoU .50…95, AP of objects below 32² pixels of input, and AP50 of each class that occurs.

    `ap_small` is None where there are no such objects.
    """

    ap50: float
    ap: float
    ap_small: float | None
    per_class: dict[str, float] = field(default_factory=dict)


def evaluate(
    *,
    examples: Sequence[Example],
    detections: Sequence[Detections],
    classes: Sequence[str],
    side: int,
    resize: Resize = Resize.SQUASH,
) -> Metrics:
    """Returns the metrics of `detections`, one entry for each example, for a network of this input side, which is given
    images resized as `resize` says."""
    # pycocotools prints its progress, and a stage's standard output belongs to the stage.
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        sizes = [_size_in_input(example, side, resize) for example in examples]
        ground_truth.dataset = _ground_truth(examples, classes, sizes)
        ground_truth.createIndex()
        results = _results(detections, sizes)
        if not results:
            present = {classes[a["category_id"] - 1] for a in ground_truth.dataset["annotations"]}
            return Metrics(0.0, 0.0, None, {name: 0.0 for name in classes if name in present})
        run = COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
        run.params.maxDets = [1, 10, MAX_DETECTIONS]
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


def _size_in_input(example: Example, side: int, resize: Resize) -> Size:
    top, left, bottom, right = example.region(side, resize)
    return (bottom - top) * side, (right - left) * side


def _ground_truth(examples: Sequence[Example], classes: Sequence[str], sizes: Sequence[Size]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, (example, size) in enumerate(zip(examples, sizes, strict=True), start=1):
        for box, label in zip(example.boxes, example.labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": _xywh(box, size),
                    "area": float((box[2] - box[0]) * (box[3] - box[1]) * size[0] * size[1]),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {},
        "images": [
            {"id": image_id, "width": width, "height": height}
            for image_id, (height, width) in enumerate(sizes, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }


def _results(detections: Sequence[Detections], sizes: Sequence[Size]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": _xywh(box, size),
            "score": float(score),
        }
        for image_id, (found, size) in enumerate(zip(detections, sizes, strict=True), start=1)
        for box, label, score in zip(found.boxes, found.classes, found.scores, strict=True)
    ]


def _xywh(box: np.ndarray, size: Size) -> list[float]:
    ymin, xmin, ymax, xmax = (float(v) * length for v, length in zip(box, (*size, *size), strict=True))
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _mean(values: np.ndarray) -> float | None:
    """Returns the mean of what pycocotools counted; its -1 says that the class or size does not occur."""
    present = values[values > -1]
    return float(present.mean()) if present.size else None
