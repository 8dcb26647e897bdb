"""Two models on one set of pictures: their figures, and the pictures on which they differ the most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll_contract import images as preprocess
from atoll_stages.compare.inputs import Model, PictureSet
from atoll_stages.export.evaluation import DIGITS, figures
from atoll_stages.export.sample_images import Shown, judge
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import Metrics, evaluate

# A score that no detection has: for a class that a model does not know.
NEVER = 2.0
SHOWN_PICTURES = 6


@dataclass(frozen=True)
class Result:
    """What a model found in a set: its figures, and each picture judged at the model's own thresholds.

    `unknown` are the set's classes that the model does not know, and so finds none of.
    """

    metrics: Metrics
    unknown: tuple[str, ...]
    judged: tuple[Shown, ...]


@dataclass(frozen=True)
class Comparison:
    """Both models on one set."""

    pictures: PictureSet
    old: Result
    new: Result

    @property
    def gains(self) -> list[float]:
        """By how much the new model's F1 is higher, of each picture."""
        return [new.f1 - old.f1 for old, new in zip(self.old.judged, self.new.judged, strict=True)]

    def better(self) -> list[int]:
        """The pictures that the new model improves the most, the greatest gain first."""
        return self._extreme(1)

    def worse(self) -> list[int]:
        """The pictures that the new model spoils the most."""
        return self._extreme(-1)

    def _extreme(self, sign: int) -> list[int]:
        gains = self.gains
        ranked = sorted((i for i, gain in enumerate(gains) if sign * gain > 0), key=lambda i: (-sign * gains[i], i))
        return ranked[:SHOWN_PICTURES]

    def document(self) -> dict[str, Any]:
        """For the JSON: figures of both, and new less old."""
        old, new = figures(self.old.metrics), figures(self.new.metrics)
        return {
            "name": self.pictures.name,
            "pictures": len(self.pictures.examples),
            "boxes": self.pictures.boxes,
            "leftOut": self.pictures.left_out,
            "classes": list(self.pictures.classes),
            "old": {**old, "unknownClasses": list(self.old.unknown)},
            "new": {**new, "unknownClasses": list(self.new.unknown)},
            "difference": {
                "ap50": round(new["ap50"] - old["ap50"], DIGITS),
                "ap": round(new["ap"] - old["ap"], DIGITS),
                "perClass": {
                    name: round(value - old["perClass"][name], DIGITS) for name, value in new["perClass"].items()
                },
            },
            "picturesBetter": sum(gain > 0 for gain in self.gains),
            "picturesWorse": sum(gain < 0 for gain in self.gains),
        }


def compare(pictures: PictureSet, old: Model, new: Model, *, tick: Callable[[int], None]) -> Comparison:
    """Run both models on the set; `tick` is called with the number of pictures done, of twice their number."""
    count = len(pictures.examples)
    first = _result(pictures, old, tick)
    return Comparison(pictures, first, _result(pictures, new, lambda done: tick(count + done)))


def _result(pictures: PictureSet, model: Model, tick: Callable[[int], None]) -> Result:
    place = {name: number for number, name in enumerate(pictures.classes)}
    classes = np.array([place.get(name, -1) for name in model.labels], np.int32)
    found = []
    for number, example in enumerate(pictures.examples, start=1):
        found.append(_in_terms_of(model.exported.detect(_input(example, model)), classes))
        tick(number)
    limits = dict(zip(model.labels, model.thresholds, strict=True))
    thresholds = [limits.get(name, NEVER) for name in pictures.classes]
    return Result(
        metrics=evaluate(
            examples=pictures.examples, detections=found, classes=pictures.classes, side=model.exported.side
        ),
        unknown=tuple(name for name in pictures.classes if name not in limits),
        judged=_judged(pictures.examples, found, thresholds),
    )


def _input(example: Example, model: Model) -> np.ndarray:
    return preprocess.decode(example.encoded, model.exported.side)


def _in_terms_of(found: Detections, classes: np.ndarray) -> Detections:
    """The detections with the set's class numbers, without those of classes that the set does not know."""
    known = (found.classes >= 0) & (found.classes < len(classes))
    mapped = np.where(known, classes[np.where(known, found.classes, 0)], -1)
    kept = mapped >= 0
    return Detections(found.boxes[kept], mapped[kept].astype(np.int32), found.scores[kept])


def _judged(examples: Sequence[Example], found: Sequence[Detections], thresholds: Sequence[float]) -> tuple[Shown, ...]:
    pairs = zip(found, examples, strict=True)
    return tuple(judge(index, item, example, thresholds) for index, (item, example) in enumerate(pairs))
