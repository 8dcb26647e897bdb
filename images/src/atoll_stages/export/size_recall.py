"""Recall by the size of the objects: small ones are missed first, and a larger input helps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll_contract.images import Resize
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, above_threshold, match_labels
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections

# The root of an object's area in pixels of the input.
_BORDERS = (8, 16, 32, 64)


@dataclass(frozen=True)
class SizeRecall:
    """Objects from `low` to below `high` pixels (None: without end), and how many of them are found."""

    low: int
    high: int | None
    objects: int
    found: int

    @property
    def recall(self) -> float:
        return self.found / self.objects if self.objects else 0.0

    @property
    def label(self) -> str:
        if self.high is None:
            return f"from {self.low}"
        return f"{self.low} to {self.high}" if self.low else f"below {self.high}"


def recall_by_size(
    examples: Sequence[Example],
    detections: Sequence[Detections],
    *,
    classes: int,
    side: int,
    resize: Resize = Resize.SQUASH,
) -> tuple[SizeRecall, ...]:
    """Returns the recall of detections from DEFAULT_THRESHOLD on, for an input of `side` pixels."""
    sizes, found = [], []
    for example, items in zip(examples, detections, strict=True):
        kept = above_threshold(items, [DEFAULT_THRESHOLD] * classes)
        matched = np.ones(len(example.labels), bool)
        matched[match_labels(kept, example, same_class=True).missed] = False
        edges = example.boxes[:, 2:] - example.boxes[:, :2]
        top, left, bottom, right = example.region(side, resize)
        shown = (bottom - top) * (right - left)
        sizes.append(side * np.sqrt(shown * np.prod(np.clip(edges, 0.0, None), axis=1)))
        found.append(matched)
    all_sizes, all_found = np.concatenate(sizes or [np.zeros(0)]), np.concatenate(found or [np.zeros(0, bool)])
    rows = []
    for low, high in zip((0, *_BORDERS), (*_BORDERS, None), strict=True):
        there = (all_sizes >= low) & (all_sizes < (high or np.inf))
        rows.append(SizeRecall(low, high, int(there.sum()), int(all_found[there].sum())))
    return tuple(rows)
