"""Batch normalisation as one fused kernel.

Keras 3 builds this layer from elementwise operations, which on a CPU cost as much as all convolutions together;
the fused kernel computes the same. Weights and their names are those of the Keras layer.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from atoll_stages.train.replica import assign_here, mean_over_replicas


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
