"""Learning rate and picture size over a run, both tied to the number of steps that was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

WARMUP_SHARE = 0.06
MOST_WARMUP_STEPS = 500
LAST_SHARE = 0.02
CELL = 32
# Smaller pictures than this lose the small objects, and save little.
LEAST_SIDE = 192


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine down to LAST_SHARE of `peak` at the last step."""

    peak: float
    steps: int

    @property
    def warmup(self) -> int:
        return max(1, min(MOST_WARMUP_STEPS, round(self.steps * WARMUP_SHARE)))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * (LAST_SHARE + (1.0 - LAST_SHARE) * 0.5 * (1.0 + math.cos(math.pi * share)))


@dataclass(frozen=True)
class Sizes:
    """Smaller pictures first: the first `share` of the steps sees `small` × the side, in multiples of 32."""

    side: int
    steps: int
    small: float = 1.0
    share: float = 0.0

    @property
    def first(self) -> int:
        wanted = round(self.side * self.small / CELL) * CELL
        return self.side if self.small >= 1.0 else min(self.side, max(LEAST_SIDE, wanted))

    def at(self, step: int) -> int:
        """The side of a step's pictures."""
        return self.first if step < self.share * self.steps else self.side
