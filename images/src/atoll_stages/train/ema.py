"""Exponential moving average of all weights, which is what is evaluated and exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atoll_stages.train.replica import subtract_here

if TYPE_CHECKING:
    import tensorflow as tf

RAMP = 10.0


class MovingAverage:
    """Shadows of `variables`. The decay grows as (1 + step) / (10 + step), so that short runs forget their start."""

    def __init__(self, variables: Sequence[tf.Variable], *, decay: float) -> None:
        import tensorflow as tf

        self._variables = list(variables)
        self._decay = decay
        self.shadows = [tf.Variable(v, trainable=False) for v in variables]

    def update(self, step: tf.Tensor) -> None:
        """Take the present weights in; `step` counts from 0."""
        import tensorflow as tf

        position = tf.cast(step, tf.float32)
        keep = tf.minimum(self._decay, (1.0 + position) / (RAMP + position))
        for shadow, variable in zip(self.shadows, self._variables, strict=True):
            subtract_here(shadow, (1.0 - keep) * (shadow - variable))

    def reset(self) -> None:
        """Start from the present weights."""
        for shadow, variable in zip(self.shadows, self._variables, strict=True):
            shadow.assign(variable)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model's weights are the averaged ones."""
        kept = [v.numpy() for v in self._variables]
        for variable, shadow in zip(self._variables, self.shadows, strict=True):
            variable.assign(shadow)
        try:
            yield
        finally:
            for variable, value in zip(self._variables, kept, strict=True):
                variable.assign(value)
