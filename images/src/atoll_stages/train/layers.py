"""Nearest-neighbour upsampling by two, in the form that the Edge TPU compiler accepts."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("atoll")
class Upsample(keras.layers.Layer):  # type: ignore[misc]  # Keras carries no types
    """(batch, h, w, c) to (batch, 2h, 2w, c)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        size = x.shape[1:3] if x.shape[1] is not None else tf.shape(x)[1:3]
        doubled = [size[0] * 2, size[1] * 2]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=doubled, align_corners=False, half_pixel_centers=False)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height * 2, width and width * 2, channels)


def assign_here(variable: tf.Variable, value: tf.Tensor) -> None:
    """variable = value."""
    import tensorflow as tf

    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def subtract_here(variable: tf.Variable, value: tf.Tensor) -> None:
    """variable -= value."""
    import tensorflow as tf

    tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=value)


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The sum of each tensor over all replicas, in replica context."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    summed: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
    return summed


def mean_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The mean of each tensor over all replicas, in replica context."""
    import tensorflow as tf

    count = tf.distribute.get_replica_context().num_replicas_in_sync
    return tensors if count == 1 else [t / count for t in sum_over_replicas(tensors)]


@keras.saving.register_keras_serializable("atoll")
class FusedBatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras carries no types
    """`keras.layers.BatchNormalization` over the last axis of (batch, height, width, channels)."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        del mask  # Keras passes it; pictures have none
        use_batch = bool(training) and self.trainable
        # The statistics stay float32 under mixed precision; the kernel takes half-precision pictures beside them.
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
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        averages = self.moving_mean.value, self.moving_variance.value
        for average, seen in zip(averages, mean_over_replicas([mean, variance]), strict=True):
            assign_here(average, average * self.momentum + seen * (1.0 - self.momentum))
        return y
