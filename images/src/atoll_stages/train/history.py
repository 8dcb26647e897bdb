"""What a training has come to: where it is, its best, and the curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One entry of the curves. Losses are means since the entry before; `ap50` only where it was measured."""

    step: int
    loss: float
    classification_loss: float
    box_loss: float
    learning_rate: float
    ap50: float | None = None
    ap: float | None = None


@dataclass(frozen=True)
class Best:
    """The best validation AP50 so far, and the step whose averaged weights had it."""

    step: int
    ap50: float


@dataclass(frozen=True)
class Progression:
    """The state of a training beside its variables, after `step` steps."""

    step: int = 0
    best: Best | None = None
    # Measurements in a row without a better AP50.
    stale: int = 0
    seconds: float = 0.0
    history: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint's document."""

    fingerprint: str
    progression: Progression


@dataclass(frozen=True)
class History:
    """`history.json`: how the training went and with which settings, for the report."""

    start: str
    accelerator: str
    steps: int
    step: int
    best: Best
    images_per_second: float
    seconds: float
    parameters: int
    settings: Mapping[str, str]
    points: tuple[Point, ...]
