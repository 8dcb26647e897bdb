"""Which pictures the report shows: the best, the worst, and those that surprise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll_stages.export.matching import NONE, above, pair
from atoll_stages.train.detections import Detections
from atoll_stages.train.records import Example


@dataclass(frozen=True)
class Shown:
    """One picture of the report: its index, and what is drawn. `surprise` is the score of the surest mistake."""

    index: int
    found: Detections
    right: tuple[bool, ...]
    missed: tuple[int, ...]
    f1: float
    surprise: float


def judge(index: int, found: Detections, example: Example, thresholds: Sequence[float]) -> Shown:
    """What the detections at the thresholds got right in a picture."""
    kept = above(found, thresholds)
    pairing = pair(kept, example, same_class=True)
    right = pairing.partner != NONE
    wrong_scores = kept.scores[~right]
    total = len(kept) + len(example.labels)
    return Shown(
        index=index,
        found=kept,
        right=tuple(bool(v) for v in right),
        missed=tuple(int(v) for v in pairing.missed),
        f1=2.0 * float(np.sum(right)) / total if total else 1.0,
        surprise=float(wrong_scores.max()) if len(wrong_scores) else 0.0,
    )


@dataclass(frozen=True)
class Selection:
    best: tuple[Shown, ...]
    worst: tuple[Shown, ...]
    surprising: tuple[Shown, ...]


def select(
    examples: Sequence[Example],
    detections: Sequence[Detections],
    *,
    thresholds: Sequence[float],
    most: int,
) -> Selection:
    """Up to `most` pictures of each kind; none is shown twice, mistakes come first."""
    judged = [
        judge(i, found, example, thresholds)
        for i, (found, example) in enumerate(zip(detections, examples, strict=True))
    ]
    surprising = sorted((s for s in judged if s.surprise > 0.0), key=lambda s: (-s.surprise, s.index))[:most]
    taken = {s.index for s in surprising}
    worst = sorted((s for s in judged if s.f1 < 1.0 and s.index not in taken), key=lambda s: (s.f1, s.index))[:most]
    taken |= {s.index for s in worst}
    fine = (s for s in judged if s.index not in taken)
    best = sorted(fine, key=lambda s: (-s.f1, -len(s.found), s.index))[:most]
    return Selection(tuple(best), tuple(worst), tuple(surprising))
