"""How sure AP50 is: its spread over samples of the evaluation images, drawn again and again with replacement.

Another set of as many images of the same kind would give a figure within the interval in 19 of 20 cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll_stages.export.evaluation import ClassMatches, match_by_class
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

_SEED = 0
_MAX_SAMPLES, _MIN_SAMPLES = 500, 100
# Images times samples: bounds the time on large sets, whose intervals are narrow anyway.
_MAX_DRAWS = 500_000
_RECALLS = np.linspace(0.0, 1.0, 101)
_PERCENTILES = (2.5, 97.5)


def sample_ap50(
    examples: Sequence[Example], detections: Sequence[Detections], classes: Sequence[str]
) -> np.ndarray | None:
    """Returns AP50 on samples of the images, or None where there are fewer than two images or no object.

    Equal images give equal samples, so that the differences of two models' values are those on the same images.
    """
    count = len(examples)
    matches = [item for item in match_by_class(examples, detections, len(classes)) if item.objects.any()]
    if count < 2 or not matches:
        return None
    random = np.random.default_rng(_SEED)
    samples = int(np.clip(_MAX_DRAWS // count, _MIN_SAMPLES, _MAX_SAMPLES))
    return np.array(
        [_ap50(matches, random.multinomial(count, np.full(count, 1 / count)).astype(float)) for _ in range(samples)]
    )


def interval(values: np.ndarray | None, *, center: float) -> tuple[float, float] | None:
    """Returns the borders between which 95 of 100 values lie, moved so that their mean is the figure `center`.

    A sample has some images twice, which makes AP a little higher than on as many different ones.
    """
    if values is None:
        return None
    low, high = np.percentile(values, _PERCENTILES) - values.mean() + center
    return float(low), float(high)


def ap50_interval(values: np.ndarray | None, ap50: float) -> tuple[float, float] | None:
    """Returns the interval of AP50 itself, which is from 0 to 1."""
    found = interval(values, center=ap50)
    return found and (max(0.0, found[0]), min(1.0, found[1]))


def _ap50(matches: Sequence[ClassMatches], weights: np.ndarray) -> float:
    """Returns AP50 as COCO computes it, where each image counts as often as its weight says."""
    values = []
    for item in matches:
        objects = float(weights @ item.objects)
        if not objects:
            continue
        counts = weights[item.images]
        found = np.cumsum(counts)
        hits = np.cumsum(counts * item.right)
        precision = np.maximum.accumulate((hits / np.maximum(found, 1e-9))[::-1])[::-1]
        reached = np.searchsorted(hits / objects, _RECALLS - 1e-12)
        values.append(float(np.append(precision, 0.0)[reached].mean()))
    return float(np.mean(values)) if values else 0.0
