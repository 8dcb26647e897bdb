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
