"""The optimizer: AdamW, the moving average of the weights, and the schedules of learning rate and image size.

AdamW has one fused kernel per variable. The update is that of `keras.optimizers.AdamW`, which issues about ten small
operations per variable instead; with some two hundred variables those cost a large part of a CPU step, and of the time
to trace it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.layers import subtract

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
CLIP_NORM = 10.0
# The moving average's decay is (1 + step) / (EMA_RAMP + step) until it reaches its own value.
EMA_RAMP = 10.0

WARMUP_SHARE = 0.06
MAX_WARMUP_STEPS = 500
FINAL_SHARE = 0.02
SIZE_MULTIPLE = 32
# Smaller images than this lose the small objects, and save little time.
MIN_SIDE = 192


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) on kernels only.

    `factors` scales the learning rate of each variable. The moments are created with the variables' placement, so
    they are mirrored under a distribution strategy.
    """

    def __init__(self, variables: Sequence[tf.Variable], *, weight_decay: float, factors: Sequence[float]) -> None:
        self._variables = list(variables)
        self._weight_decay = weight_decay
        self._factors = list(factors)
        self._moments = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._velocities = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def state(self) -> list[tf.Variable]:
        """Returns the variables that a checkpoint must hold."""
        return [*self._moments, *self._velocities]

    def apply(self, gradients: Sequence[tf.Tensor], *, learning_rate: tf.Tensor, step: tf.Tensor) -> None:
        """Updates the variables with gradients that are reduced over the replicas already; `step` counts from 0."""
        clipped, _ = tf.clip_by_global_norm(gradients, CLIP_NORM)
        power = tf.cast(step + 1, tf.float32)
        # One tensor each, because a Python number becomes a constant of its own for every variable.
        beta1, beta2, epsilon = (tf.constant(value) for value in (BETA_1, BETA_2, EPSILON))
        beta1_power, beta2_power = beta1**power, beta2**power
        rates = {factor: learning_rate * factor for factor in set(self._factors)}
        decays = {factor: rate * self._weight_decay for factor, rate in rates.items()}
        rows = zip(self._variables, self._moments, self._velocities, clipped, self._factors, strict=True)
        for variable, moment, velocity, gradient, factor in rows:
            if self._weight_decay and len(variable.shape) > 1:
                subtract(variable, decays[factor], variable.read_value())
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=moment.handle,
                v=velocity.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rates[factor],
                beta1=beta1,
                beta2=beta2,
                epsilon=epsilon,
                grad=gradient,
            )


class MovingAverage:
    """Exponential moving average of `variables`: the weights that are evaluated and exported.

    The decay grows with the step, so that short runs forget their initial weights.
    """

    def __init__(self, variables: Sequence[tf.Variable], *, decay: float) -> None:
        self._variables = list(variables)
        self._decay = decay
        self.shadows = [tf.Variable(v, trainable=False) for v in variables]

    def update(self, step: tf.Tensor) -> None:
        """Adds the present weights to the average; `step` counts from 0."""
        position = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + position) / (EMA_RAMP + position))
        share = 1.0 - decay
        for shadow, variable in zip(self.shadows, self._variables, strict=True):
            subtract(shadow, share, shadow - variable)

    def reset(self) -> None:
        """Starts anew from the present weights."""
        for shadow, variable in zip(self.shadows, self._variables, strict=True):
            shadow.assign(variable)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averaged weights, and at the end its own again."""
        own = [v.numpy() for v in self._variables]
        for variable, shadow in zip(self._variables, self.shadows, strict=True):
            variable.assign(shadow)
        try:
            yield
        finally:
            for variable, value in zip(self._variables, own, strict=True):
                variable.assign(value)


@dataclass(frozen=True)
class LearningRateSchedule:
    """Linear warm-up, then half a cosine down to FINAL_SHARE of `peak` at the last step."""

    peak: float
    steps: int

    @property
    def warmup_steps(self) -> int:
        return max(1, min(MAX_WARMUP_STEPS, round(self.steps * WARMUP_SHARE)))

    def at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        share = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.peak * (FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * share)))


@dataclass(frozen=True)
class ImageSizeSchedule:
    """Smaller images first: in the first `small_share` of the steps `small` × the side, in multiples of 32."""

    side: int
    steps: int
    small: float = 1.0
    small_share: float = 0.0

    @property
    def first(self) -> int:
        wanted = round(self.side * self.small / SIZE_MULTIPLE) * SIZE_MULTIPLE
        return self.side if self.small >= 1.0 else min(self.side, max(MIN_SIDE, wanted))

    def at(self, step: int) -> int:
        """Returns the side of a step's images; steps count from 0."""
        return self.first if step < self.small_share * self.steps else self.side
