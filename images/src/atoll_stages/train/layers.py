"""Keras layers of the detector, and the raw operations that they share with the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

_Averages = list[tuple[tf.Variable, tf.Tensor]]
# Each replica of a strategy runs in a thread of its own, and so has a list of its own.
_collected: ContextVar[_Averages | None] = ContextVar("collected averages", default=None)


@contextmanager
def collected_averages() -> Iterator[_Averages]:
    """Collects the moving averages of batch normalisation with their new values, which the caller then assigns.

    So the caller can reduce them over the replicas together with the gradients: a collective for each layer would be
    over fifty a step, each of two tiny tensors.
    """
    averages: _Averages = []
    token = _collected.set(averages)
    try:
        yield averages
    finally:
        _collected.reset(token)


@keras.saving.register_keras_serializable("atoll")
class Upsample(keras.layers.Layer):  # type: ignore[misc]  # Keras carries no types
    """Doubles height and width by repetition: (batch, h, w, c) to (batch, 2h, 2w, c).

    Keras' UpSampling2D sets half_pixel_centers, which makes RESIZE_NEAREST_NEIGHBOR version 3; old Edge TPU compilers
    know only version 2. The values are equal. In training the pixels are repeated by other operations with the same
    values: XLA has no gradient of that one.
    """

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training:
            count, height, width, _ = tf.unstack(tf.shape(x))
            channels = x.shape[-1]
            repeated = tf.broadcast_to(x[:, :, None, :, None, :], [count, height, 2, width, 2, channels])
            return tf.reshape(repeated, [count, height * 2, width * 2, channels])
        size = x.shape[1:3] if x.shape[1] is not None else tf.shape(x)[1:3]
        doubled = [size[0] * 2, size[1] * 2]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=doubled, align_corners=False, half_pixel_centers=False)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height * 2, width and width * 2, channels)


@keras.saving.register_keras_serializable("atoll")
class FusedBatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras carries no types
    """`keras.layers.BatchNormalization` over the last axis of (batch, height, width, channels), as one fused kernel.

    Keras 3 builds this layer from elementwise operations, which on a CPU cost as much as all convolutions together.
    Weights and their names are those of the Keras layer. Within `collected_averages` the layer leaves the moving
    averages as they are, and hands on their new values.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        del mask  # Keras passes it; images have none
        use_batch = bool(training) and self.trainable
        # The statistics stay float32 under mixed precision; the kernel takes half-precision images beside them.
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        if not use_batch:
            y, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=gamma,
                offset=beta,
                mean=tf.convert_to_tensor(self.moving_mean),
                variance=tf.convert_to_tensor(self.moving_variance),
                epsilon=self.epsilon,
                is_training=False,
            )
            return y
        # The kernel itself moves the averages: operations of their own would be a fifth of the graph of a step.
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=tf.convert_to_tensor(self.moving_mean),
            variance=tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0 - self.momentum,
            is_training=True,
        )
        moved = [(self.moving_mean.value, mean), (self.moving_variance.value, variance)]
        collected = _collected.get()
        if collected is None:
            assign_all(moved)
        else:
            collected += moved
        return y


def assign_all(values: _Averages) -> None:
    """Assigns each value to this replica's copy of its variable alone.

    Under a strategy every replica computes the same update from reduced gradients, so each may write its own copy
    without coordination. Outside a strategy this is a plain assignment.
    """
    for variable, value in values:
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def subtract(variable: tf.Variable, factor: tf.Tensor, value: tf.Tensor) -> None:
    """Subtracts `factor` × `value` from this replica's copy alone, as `assign_all`, by one operation."""
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=factor, delta=value)


def mean_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the mean of each tensor over all replicas. Called in replica context."""
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return tensors
    return [t / count for t in context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)]
