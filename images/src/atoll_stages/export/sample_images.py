"""Selects images of the evaluation split: golden ones for the devices, and those of the report, with their boxes.

A device runs a new model on the golden images before it uses the model.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atoll_contract.document import Document
from atoll_contract.release import Detection
from atoll_stages.export.evaluation import above_threshold, match_labels
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

GOLDEN_IMAGES = 3
# Weak detections differ between backends; only detections from this score on are expected.
GOLDEN_MIN_SCORE = 0.5
GOLDEN_MAX_BOXES = 8
DIGITS = 4

LONG_SIDE = 400
JPEG_QUALITY = 82
CORRECT, WRONG, MISSED = (0, 200, 110), (255, 64, 64), (255, 200, 0)
LABEL_SIZE = 11
DASH = 5


class GoldenImage(Document, frozen=True):
    """An entry of `golden.json`: a PNG in the input's own size, and what the int8 file finds in it."""

    name: str
    expected: tuple[Detection, ...]


def write_golden_images(
    folder: Path, images: Sequence[np.ndarray], detections: Sequence[Detections]
) -> list[GoldenImage]:
    """Writes `golden-0.png` and so on into `folder`; `images` are uint8 in the input's size."""
    from PIL import Image

    entries = []
    for number, index in enumerate(select_golden(detections)):
        name = f"golden-{number}.png"
        Image.fromarray(images[index]).save(folder / name)
        entries.append(GoldenImage(name, expected_detections(detections[index])))
    return entries


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


def draw_boxes(example: Example, assessment: Assessment, classes: Sequence[str]) -> str:
    """Draws correct, wrong and missed boxes; returns the image as a `data:` address of a JPEG."""
    from PIL import ImageDraw

    image = _resized(example.encoded)
    draw = ImageDraw.Draw(image)
    for index in assessment.missed:
        _draw_dashed(draw, _pixels(example.boxes[index], image), MISSED)
    found = assessment.detections
    for box, label, score, correct in zip(found.boxes, found.classes, found.scores, assessment.correct, strict=True):
        corners, color = _pixels(box, image), CORRECT if correct else WRONG
        draw.rectangle(corners, outline=color, width=2)
        if not correct:
            _draw_label(draw, corners[:2], f"{classes[label]} {score:.2f}", color)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _resized(encoded: bytes) -> Image:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as source:
        image = source.convert("RGB")
    ratio = LONG_SIDE / max(image.size)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.BILINEAR)


def _pixels(box: np.ndarray, image: Image) -> tuple[float, float, float, float]:
    """Converts a relative (ymin, xmin, ymax, xmax) to (left, top, right, bottom) in pixels."""
    ymin, xmin, ymax, xmax = (float(v) for v in box)
    return xmin * image.width, ymin * image.height, xmax * image.width, ymax * image.height


def _draw_label(draw: ImageDraw, at: tuple[float, float], text: str, color: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=LABEL_SIZE)
    left, top = max(0.0, at[0]), max(0.0, at[1] - LABEL_SIZE - 4)
    width = draw.textlength(text, font=font)
    draw.rectangle((left, top, left + width + 4, top + LABEL_SIZE + 3), fill=color)
    draw.text((left + 2, top), text, fill=(0, 0, 0), font=font)


def _draw_dashed(draw: ImageDraw, box: tuple[float, float, float, float], color: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    for start in np.arange(x0, x1, 2 * DASH):
        end = min(float(start) + DASH, x1)
        draw.line((float(start), y0, end, y0), fill=color, width=2)
        draw.line((float(start), y1, end, y1), fill=color, width=2)
    for start in np.arange(y0, y1, 2 * DASH):
        end = min(float(start) + DASH, y1)
        draw.line((x0, float(start), x0, end), fill=color, width=2)
        draw.line((x1, float(start), x1, end), fill=color, width=2)
