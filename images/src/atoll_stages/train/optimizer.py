"""AdamW with one fused kernel per variable.

The same update as `keras.optimizers.AdamW`, which issues about ten small operations per variable instead; with some
two hundred variables that costs a large part of a CPU step, and of its tracing time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atoll_stages.train.replica import subtract_here

if TYPE_CHECKING:
    import tensorflow as tf

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
