"""Compares two models on one set of images: their metrics, and the images on which they differ the most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll_contract import images as preprocess
from atoll_stages.compare.inputs import ImageSet, LabelledModel
from atoll_stages.export.bootstrap import ap50_interval, interval, sample_ap50
from atoll_stages.export.evaluation import DIGITS, metrics_dict
from atoll_stages.export.sample_images import Assessment, assess
from atoll_stages.train.detections import Detections, in_image
from atoll_stages.train.evaluate import Metrics, evaluate

# The threshold of a class that a model does not know: no score reaches it.
UNREACHABLE_SCORE = 2.0
SHOWN_IMAGES = 6


@dataclass(frozen=True)
class ModelResult:
    """A model's metrics on a set, and the assessment of each image at the model's own thresholds.

    `unknown` are the set's classes that the model does not know and can therefore not find. `samples` are AP50 on
    samples of the images, the same of both models.
    """

    metrics: Metrics
    unknown: tuple[str, ...]
    assessments: tuple[Assessment, ...]
    samples: np.ndarray | None = None

    def document(self) -> dict[str, Any]:
        """Returns the model's entry of the JSON."""
        found = {**metrics_dict(self.metrics), "unknownClasses": list(self.unknown)}
        return {**found, **_interval_entry(ap50_interval(self.samples, self.metrics.ap50))}


def _interval_entry(borders: tuple[float, float] | None) -> dict[str, list[float]]:
    return {"ap50Interval": [round(border, DIGITS) for border in borders]} if borders else {}


@dataclass(frozen=True)
class Comparison:
    """The results of both models on one set."""

    images: ImageSet
    old: ModelResult
    new: ModelResult

    @property
    def gains(self) -> list[float]:
        """For each image, by how much the new model's F1 is higher."""
        return [new.f1 - old.f1 for old, new in zip(self.old.assessments, self.new.assessments, strict=True)]

    def better(self) -> list[int]:
        """Returns the images on which the new model gains, the greatest gain first."""
        return self._extreme(1)

    def worse(self) -> list[int]:
        """Returns the images on which the new model loses, the greatest loss first."""
        return self._extreme(-1)

    def _extreme(self, sign: int) -> list[int]:
        gains = self.gains
        ranked = sorted((i for i, gain in enumerate(gains) if sign * gain > 0), key=lambda i: (-sign * gains[i], i))
        return ranked[:SHOWN_IMAGES]

    def document(self) -> dict[str, Any]:
        """Returns the set's entry of the JSON: metrics of both, and new less old (docs/contract.md)."""
        old, new = self.old.document(), self.new.document()
        one, other = self.old.samples, self.new.samples
        change = new["ap50"] - old["ap50"]
        borders = None if one is None or other is None else interval(other - one, center=change)
        return {
            "name": self.images.name,
            "pictures": len(self.images.examples),
            "boxes": self.images.boxes,
            "leftOut": self.images.left_out,
            "classes": list(self.images.classes),
            "old": old,
            "new": new,
            "difference": {
                "ap50": round(change, DIGITS),
                "ap": round(new["ap"] - old["ap"], DIGITS),
                **_interval_entry(borders),
                "perClass": {
                    name: round(value - old["perClass"][name], DIGITS) for name, value in new["perClass"].items()
                },
            },
            "picturesBetter": sum(gain > 0 for gain in self.gains),
            "picturesWorse": sum(gain < 0 for gain in self.gains),
        }


def compare(
    images: ImageSet, old: LabelledModel, new: LabelledModel, *, on_progress: Callable[[int], None]
) -> Comparison:
    """Runs both models on the set.

    `on_progress` is called with the number of images that are done, which ends at twice the set's size.
    """
    count = len(images.examples)
    old_result = _run(images, old, on_progress)
    return Comparison(images, old_result, _run(images, new, lambda done: on_progress(count + done)))


def _run(images: ImageSet, model: LabelledModel, on_progress: Callable[[int], None]) -> ModelResult:
    set_index = {name: number for number, name in enumerate(images.classes)}
    class_map = np.array([set_index.get(name, -1) for name in model.labels], np.int32)
    side, resize = model.exported.side, model.resize
    detections = []
    for number, example in enumerate(images.examples, start=1):
        found = model.exported.detect(preprocess.decode(example.encoded, side, resize))
        detections.append(_map_classes(in_image(found, example.region(side, resize)), class_map))
        on_progress(number)
    own_thresholds = dict(zip(model.labels, model.thresholds, strict=True))
    thresholds = [own_thresholds.get(name, UNREACHABLE_SCORE) for name in images.classes]
    return ModelResult(
        metrics=evaluate(
            examples=images.examples, detections=detections, classes=images.classes, side=side, resize=resize
        ),
        unknown=tuple(name for name in images.classes if name not in own_thresholds),
        assessments=_assess_all(images, detections, thresholds),
        samples=sample_ap50(images.examples, detections, images.classes),
    )


def _map_classes(found: Detections, class_map: np.ndarray) -> Detections:
    """Gives the detections the set's class numbers, and drops those of classes that the set does not know."""
    known = (found.classes >= 0) & (found.classes < len(class_map))
    mapped = np.where(known, class_map[np.where(known, found.classes, 0)], -1)
    kept = mapped >= 0
    return Detections(found.boxes[kept], mapped[kept].astype(np.int32), found.scores[kept])


def _assess_all(
    images: ImageSet, detections: Sequence[Detections], thresholds: Sequence[float]
) -> tuple[Assessment, ...]:
    pairs = zip(detections, images.examples, strict=True)
    return tuple(assess(index, found, example, thresholds) for index, (found, example) in enumerate(pairs))
