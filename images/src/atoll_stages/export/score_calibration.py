"""Shifts a detector's scores so that .5 is the right threshold for every class.

Most programs that run a .tflite file know one threshold, .5, for all models and classes. A sigmoid's score means
nothing by itself: the best threshold of a class lies at .2 with one model and at .6 with the next. A shift of the class
logits leaves the order of a class's detections, and so its AP, as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, match_by_class
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

if TYPE_CHECKING:
    import keras

# Thresholds whose F1 is this near to the best are equally good; their middle is taken, as few images decide by chance.
_PLATEAU = 0.99
# A class with fewer objects takes the threshold of all classes together.
_MIN_OBJECTS = 10
# Beyond these the detector has not learned the class, and no shift helps.
_LOWEST, _HIGHEST = 0.05, 0.95


@dataclass(frozen=True)
class ScoreCalibration:
    """`scores` are what the detector gave, class by class, to detections that get .5 now; `split` chose them."""

    split: str
    scores: tuple[float, ...]

    def apply(self, model: keras.Model) -> None:
        """Shifts the class logits of `model`, which must be the detector as it was trained."""
        from atoll_stages.train.detector import shift_class_logits

        shift_class_logits(model, [_logit(DEFAULT_THRESHOLD) - _logit(score) for score in self.scores])


def calibrate_scores(
    split: str, examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str]
) -> ScoreCalibration:
    """Chooses the threshold of each class by F1 on the images of a split that is not the test part."""
    scores, correct, objects = match_by_class(examples, detections, classes)
    common = _best_threshold(np.concatenate(scores), np.concatenate(correct), int(objects.sum()))
    return ScoreCalibration(
        split,
        tuple(
            _best_threshold(own, right, int(count)) if count >= _MIN_OBJECTS and right.any() else common
            for own, right, count in zip(scores, correct, objects, strict=True)
        ),
    )


def _best_threshold(scores: np.ndarray, correct: np.ndarray, objects: int) -> float:
    """Returns the middle of the thresholds with the best F1, DEFAULT_THRESHOLD where nothing is found."""
    if not objects or not correct.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(correct[order])
    # Detections of equal scores are on the same side of any threshold.
    lasts = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))
    values, f1 = scores[lasts], 2 * hits[lasts] / (lasts + 1 + objects)
    first = last = int(np.argmax(f1))
    enough = f1 >= _PLATEAU * f1[first]
    while first > 0 and enough[first - 1]:
        first -= 1
    while last + 1 < len(values) and enough[last + 1]:
        last += 1
    following = values[last + 1] if last + 1 < len(values) else 0.0
    return float(np.clip((values[first] + following) / 2, _LOWEST, _HIGHEST))


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
