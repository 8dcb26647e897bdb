"""Own layers and the optimizer against those of Keras and NumPy."""

import keras
import numpy as np
import tensorflow as tf

from atoll_stages.train.layers import FusedBatchNorm, Upsample
from atoll_stages.train.optimizer import AdamW, MovingAverage


def test_fused_normalisation_equals_keras_in_both_modes() -> None:
    ours, theirs = (
        FusedBatchNorm(momentum=0.9, epsilon=1e-3),
        keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3),
    )
    random = np.random.default_rng(0)
    x = random.normal(2.0, 3.0, (4, 16, 16, 5)).astype(np.float32)
    for layer in (ours, theirs):
        layer.build(x.shape)
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)
    # The fused kernel averages the unbiased variance: n / (n - 1) of the biased one, here 1024 / 1023.
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-3)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), atol=1e-4)


def test_a_frozen_normalisation_keeps_its_statistics() -> None:
    layer = FusedBatchNorm()
    layer.build((1, 4, 4, 2))
    layer.trainable = False
    before = layer.get_weights()
    layer(np.full((1, 4, 4, 2), 7.0, np.float32), training=True)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_upsampling_repeats_pixels() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    expected = keras.layers.UpSampling2D(2)(x)
    np.testing.assert_array_equal(Upsample()(x), expected)


def test_adamw_follows_its_formula() -> None:
    start, gradient = np.array([[1.0, -2.0]], np.float32), np.array([[0.5, -0.25]], np.float32)
    variable = tf.Variable(start)
    optimizer = AdamW([variable], weight_decay=0.1, factors=[0.5])
    optimizer.apply([tf.constant(gradient)], learning_rate=tf.constant(0.01), step=tf.constant(0))
    # At the first step both moments are the gradient after bias correction, so the update is its sign.
    rate = 0.01 * 0.5
    np.testing.assert_allclose(variable.numpy(), start * (1 - rate * 0.1) - rate * np.sign(gradient), rtol=1e-4)


def test_vectors_are_not_decayed() -> None:
    variable = tf.Variable([1.0, 1.0])
    AdamW([variable], weight_decay=0.5, factors=[1.0]).apply(
        [tf.zeros(2)], learning_rate=tf.constant(0.1), step=tf.constant(0)
    )
    np.testing.assert_array_equal(variable.numpy(), [1.0, 1.0])


def test_average_forgets_its_start_and_applies_only_within() -> None:
    variable = tf.Variable([0.0])
    average = MovingAverage([variable], decay=0.9)
    for step in range(200):
        variable.assign([1.0])
        average.update(tf.constant(step))
    with average.applied():
        assert 0.99 < float(variable[0]) < 1.0
    assert float(variable[0]) == 1.0
