"""When a training cannot be saved any more."""

from __future__ import annotations

import math
from collections import deque

from atoll_contract.errors import ModelError
from atoll_contract.reasons import Reason

WINDOW = 20
# The loss starts near 2.3 and falls; a mean above ten times the first says that the weights are lost.
WORSE = 10.0


class DivergenceWatch:
    """Looks at every loss. `peak` is the learning rate that the message names."""

    def __init__(self, *, peak: float) -> None:
        self._peak = peak
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._first: float | None = None

    def see(self, loss: float, *, step: int) -> None:
        """Take in the loss of a step, counted from 1.

        Raises:
            ModelError: TrainingDiverged.
        """
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {step}")
        self._recent.append(loss)
        mean = sum(self._recent) / len(self._recent)
        if self._first is None:
            if len(self._recent) == WINDOW:
                self._first = mean
        elif mean > WORSE * self._first:
            raise self._diverged(f"the loss rose from {self._first:.3g} to {mean:.3g} by step {step}")

    def _diverged(self, what: str) -> ModelError:
        return ModelError(
            Reason.TRAINING_DIVERGED,
            f"{what}; lower learningRate ({self._peak:.3g}), for example to {self._peak / 10:.2g}, or raise batchSize",
        )
