"""Golden pictures: what a device must see in them before it trusts a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll_contract.document import Document
from atoll_contract.release import Detection
from atoll_stages.export.evaluation import NONE, above, pair
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

COUNT = 3
# Weak detections flicker between backends; only sure ones are expected.
MIN_SCORE = 0.5
MOST_BOXES = 8
DIGITS = 4


class Golden(Document, frozen=True):
    """An entry of `golden.json`: a PNG in the input's own size, and what the int8 file finds in it."""

    name: str
    expected: tuple[Detection, ...]


def expected(found: Detections) -> tuple[Detection, ...]:
    """The sure detections, best first."""
    order = [i for i in np.argsort(-found.scores, kind="stable") if found.scores[i] >= MIN_SCORE][:MOST_BOXES]
    return tuple(
        Detection(
            class_id=int(found.classes[i]),
            score=round(float(found.scores[i]), DIGITS),
            box=tuple(round(float(v), DIGITS) for v in found.boxes[i]),
        )
        for i in order
    )


def _variety(found: Detections) -> tuple[int, float]:
    """Pictures with many classes, surely seen, come first."""
    sure = found.scores >= MIN_SCORE
    best = float(found.scores.max()) if len(found) else 0.0
    return len(set(found.classes[sure].tolist())), best


def choose(detections: Sequence[Detections]) -> list[int]:
    """The pictures to take: most classes first, then the surest; fewer where there are fewer."""
    ranked = sorted(range(len(detections)), key=lambda i: (*(-v for v in _variety(detections[i])), i))
    return ranked[:COUNT]


def write_golden(folder: Path, pictures: Sequence[np.ndarray], detections: Sequence[Detections]) -> list[Golden]:
    """Write `golden-0.png` and so on into `folder`; `pictures` are uint8 in the input's size."""
    from PIL import Image

    entries = []
    for number, index in enumerate(choose(detections)):
        name = f"golden-{number}.png"
        Image.fromarray(pictures[index]).save(folder / name)
        entries.append(Golden(name, expected(detections[index])))
    return entries


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
