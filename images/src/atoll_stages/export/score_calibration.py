"""Shifts a detector's scores so that .5 is the right threshold for every class.

Most programs that run a .tflite file know one threshold, .5, for all models and classes. A sigmoid's score means
nothing by itself: the best threshold of a class lies at .2 with one model and at .6 with the next. A shift of the class
logits leaves the order of a class's detections, and so its AP, as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, ClassMatches, match_by_class
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

if TYPE_CHECKING:
    import keras

# Thresholds whose F1 is this near to the best are equally good; their middle is taken, as few images decide by chance.
_PLATEAU = 0.99
# Where a single detection decides which thresholds are the best, others would be with one image more or less: the mean
# over so many samples of the images is taken.
_SAMPLES = 50
_SEED = 0
# The threshold of a class with fewer objects lies between its own and that of all classes together.
_ENOUGH_OBJECTS = 30
# Beyond these the detector has not learned the class, and no shift helps.
_LOWEST, _HIGHEST = 0.05, 0.95
# Quantisation moves scores a little; further than so the file's right threshold may not be from DEFAULT_THRESHOLD.
TOLERANCE = 0.02
_MAX_CORRECTIONS = 2


@dataclass(frozen=True)
class ScoreCalibration:
    """`scores` are what the detector gave, class by class, to detections that get .5 now; `split` chose them."""

    split: str
    scores: tuple[float, ...]

    def apply(self, model: keras.Model) -> None:
        """Shifts the class logits of `model`, which must be the detector as it was trained."""
        from atoll_stages.train.detector import shift_class_logits

        shift_class_logits(model, [_logit(DEFAULT_THRESHOLD) - _logit(score) for score in self.scores])

    @property
    def is_needed(self) -> bool:
        """Whether a class has its right threshold elsewhere than at DEFAULT_THRESHOLD."""
        return any(abs(score - DEFAULT_THRESHOLD) > TOLERANCE for score in self.scores)

    def followed_by(self, other: ScoreCalibration) -> ScoreCalibration:
        """Returns both as one; `other` was chosen after this one had been applied."""
        pairs = zip(self.scores, other.scores, strict=True)
        return ScoreCalibration(self.split, tuple(_score(_logit(one) + _logit(two)) for one, two in pairs))


def calibrate_file(
    model: keras.Model,
    calibration: ScoreCalibration,
    *,
    convert: Callable[[], bytes],
    choose: Callable[[bytes], ScoreCalibration],
) -> tuple[bytes, ScoreCalibration]:
    """Returns the file that `convert` makes of `model`, with DEFAULT_THRESHOLD right in the file itself.

    `calibration` was chosen with the float model and has been applied to it; `choose` chooses with a file. Where
    quantisation has moved the scores of a class too far, the model is shifted further and converted again.
    """
    data = convert()
    for _ in range(_MAX_CORRECTIONS):
        rest = choose(data)
        if not rest.is_needed:
            break
        rest.apply(model)
        calibration = calibration.followed_by(rest)
        data = convert()
    return data, calibration


def calibrate_scores(
    split: str, examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str]
) -> ScoreCalibration:
    """Chooses the threshold of each class by F1 on the images of a split that is not the test part."""
    found = match_by_class(examples, detections, len(classes))
    common = _threshold(_pooled(found))
    return ScoreCalibration(split, tuple(_shrunk(_threshold(own), common, int(own.objects.sum())) for own in found))


def _pooled(found: Sequence[ClassMatches]) -> ClassMatches:
    """Returns the detections and objects of all classes as if they were one."""
    scores, right, images = (
        np.concatenate([getattr(own, name) for own in found]) for name in ("scores", "right", "images")
    )
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(scores[order], right[order], images[order], np.sum([own.objects for own in found], axis=0))


def _shrunk(own: float | None, common: float | None, objects: int) -> float:
    """Returns the threshold of a class: the more its own, the more objects it has."""
    if common is None:
        return DEFAULT_THRESHOLD
    if own is None:
        return common
    weight = min(1.0, objects / _ENOUGH_OBJECTS)
    return _score(weight * _logit(own) + (1 - weight) * _logit(common))


def _threshold(matches: ClassMatches) -> float | None:
    """Returns the mean of the best thresholds on samples of the images, or None where nothing is found."""
    if not matches.objects.any() or not matches.right.any():
        return None
    counts = [weights for weights in _samples(len(matches.objects)) if weights[matches.images][matches.right].any()]
    return float(np.mean([_best_threshold(matches, weights) for weights in counts]))


def _samples(count: int) -> Iterator[np.ndarray]:
    """Yields how often each image is in the sample: first each once, then as chance has it."""
    random = np.random.default_rng(_SEED)
    yield np.ones(count)
    for _ in range(_SAMPLES):
        yield random.multinomial(count, np.full(count, 1 / count)).astype(float)


def _best_threshold(matches: ClassMatches, weights: np.ndarray) -> float:
    """Returns the middle of the thresholds with the best F1, where each image counts as often as its weight says."""
    met = weights[matches.images] > 0
    scores, counts = matches.scores[met], weights[matches.images][met]
    hits, total = np.cumsum(counts * matches.right[met]), np.cumsum(counts)
    # Detections of equal scores are on the same side of any threshold.
    lasts = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))
    objects = float(weights @ matches.objects)
    values, f1 = scores[lasts], 2 * hits[lasts] / (total[lasts] + objects)
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


def _score(logit: float) -> float:
    return float(np.clip(1 / (1 + np.exp(-logit)), _LOWEST, _HIGHEST))
