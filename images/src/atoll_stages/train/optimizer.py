"""AdamW with one fused kernel per variable.

The same update as `keras.optimizers.AdamW`, which issues about ten small operations per variable instead; with some
two hundred variables that costs a large part of a CPU step, and of its tracing time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.layers import subtract_here

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
CLIP_NORM = 10.0


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) on kernels only.

    `factors` scales the learning rate of each variable. The moments are created with the variables' placement, so
    they are mirrored under a distribution strategy.
    """

    def __init__(self, variables: Sequence[tf.Variable], *, decay: float, factors: Sequence[float]) -> None:
        import tensorflow as tf

        self._variables = list(variables)
        self._decay = decay
        self._factors = list(factors)
        self.moments = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self.velocities = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def state(self) -> list[tf.Variable]:
        """The variables a checkpoint must hold."""
        return [*self.moments, *self.velocities]

    def apply(self, gradients: Sequence[tf.Tensor], *, rate: tf.Tensor, step: tf.Tensor) -> None:
        """One update with gradients that are summed over replicas already; `step` counts from 0."""
        import tensorflow as tf

        clipped, _ = tf.clip_by_global_norm(gradients, CLIP_NORM)
        power = tf.cast(step + 1, tf.float32)
        beta1_power, beta2_power = BETA_1**power, BETA_2**power
        rows = zip(self._variables, self.moments, self.velocities, clipped, self._factors, strict=True)
        for variable, moment, velocity, gradient, factor in rows:
            if self._decay and len(variable.shape) > 1:
                subtract_here(variable, rate * factor * self._decay * variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=moment.handle,
                v=velocity.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rate * factor,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )


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
