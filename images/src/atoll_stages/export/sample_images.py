"""Selects images of the evaluation split: golden ones for the devices, and those of the report.

A device runs a new model on the golden images before it uses the model.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll_contract.document import Document
from atoll_contract.images import Resize, scaled
from atoll_contract.release import Detection
from atoll_stages.export.evaluation import above_threshold, match_labels
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

GOLDEN_IMAGES = 3
# Weak detections differ between backends; only detections from this score on are expected.
GOLDEN_MIN_SCORE = 0.5
GOLDEN_MAX_BOXES = 8
DIGITS = 4


class GoldenImage(Document, frozen=True):
    """An entry of `golden.json`: a PNG as large as the input shows it, and what the int8 file finds in it."""

    name: str
    expected: tuple[Detection, ...]


def write_golden_images(
    folder: Path, images: Sequence[np.ndarray], detections: Sequence[Detections]
) -> list[GoldenImage]:
    """Writes `golden-0.png` and so on into `folder`; `images` are as `golden_candidate` gives them."""
    from PIL import Image

    entries = []
    for number, index in enumerate(select_golden(detections)):
        name = f"golden-{number}.png"
        Image.fromarray(images[index]).save(folder / name)
        entries.append(GoldenImage(name, expected_detections(detections[index])))
    return entries


def golden_candidate(example: Example, side: int, how: Resize) -> np.ndarray:
    """Returns the image of an example in uint8 as large as the input shows it, without padding: a device that makes the
    input of it proves that it does so as training did."""
    from PIL import Image

    with Image.open(io.BytesIO(example.encoded)) as image:
        return np.asarray(scaled(image, side, how), np.uint8)


def select_golden(detections: Sequence[Detections]) -> list[int]:
    """Returns the indices of up to GOLDEN_IMAGES images: most classes first, then the highest scores."""

    def rank(index: int) -> tuple[float, float, int]:
        found = detections[index]
        classes = set(found.classes[found.scores >= GOLDEN_MIN_SCORE].tolist())
        return -len(classes), -float(found.scores.max()) if len(found) else 0.0, index

    return sorted(range(len(detections)), key=rank)[:GOLDEN_IMAGES]


def expected_detections(found: Detections) -> tuple[Detection, ...]:
    """Returns what a device must find, best first."""
    order = np.argsort(-found.scores, kind="stable")
    return tuple(
        Detection(
            class_id=int(found.classes[i]),
            score=round(float(found.scores[i]), DIGITS),
            box=tuple(round(float(v), DIGITS) for v in found.boxes[i]),
        )
        for i in [i for i in order if found.scores[i] >= GOLDEN_MIN_SCORE][:GOLDEN_MAX_BOXES]
    )


@dataclass(frozen=True)
class Assessment:
    """The detections of one image at the thresholds, against its labels.

    `correct` says for each detection whether it matches a label; `missed` are indices of labels; `surprise` is the
    score of the most confident wrong detection.
    """

    index: int
    detections: Detections
    correct: tuple[bool, ...]
    missed: tuple[int, ...]
    f1: float
    surprise: float

    @property
    def counts(self) -> str:
        right = sum(self.correct)
        return f"{right} right, {len(self.correct) - right} wrong, {len(self.missed)} missed"


def assess(index: int, detections: Detections, example: Example, thresholds: Sequence[float]) -> Assessment:
    """Compares the detections of one image with its labels."""
    kept = above_threshold(detections, thresholds)
    matches = match_labels(kept, example, same_class=True)
    wrong_scores = kept.scores[~matches.matched]
    total = len(kept) + len(example.labels)
    return Assessment(
        index=index,
        detections=kept,
        correct=tuple(bool(v) for v in matches.matched),
        missed=tuple(int(v) for v in matches.missed),
        f1=2.0 * float(np.sum(matches.matched)) / total if total else 1.0,
        surprise=float(wrong_scores.max()) if len(wrong_scores) else 0.0,
    )


@dataclass(frozen=True)
class Selection:
    """The images of the report."""

    best: tuple[Assessment, ...]
    worst: tuple[Assessment, ...]
    surprising: tuple[Assessment, ...]


def select_images(
    examples: Sequence[Example], detections: Sequence[Detections], *, thresholds: Sequence[float], max_images: int
) -> Selection:
    """Selects up to `max_images` of each kind; no image is in two of them, mistakes come first."""
    assessed = [
        assess(i, found, example, thresholds)
        for i, (found, example) in enumerate(zip(detections, examples, strict=True))
    ]
    surprising = sorted((a for a in assessed if a.surprise > 0.0), key=lambda a: (-a.surprise, a.index))[:max_images]
    taken = {a.index for a in surprising}
    wrong = (a for a in assessed if a.f1 < 1.0 and a.index not in taken)
    worst = sorted(wrong, key=lambda a: (a.f1, a.index))[:max_images]
    taken |= {a.index for a in worst}
    rest = (a for a in assessed if a.index not in taken)
    best = sorted(rest, key=lambda a: (-a.f1, -len(a.detections), a.index))[:max_images]
    return Selection(tuple(best), tuple(worst), tuple(surprising))
