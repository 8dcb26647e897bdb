"""Augmentation of a batch inside the TensorFlow graph. Its randomness depends on seed and step alone.

Hue changes little, because on the field the colour of an object shows its alliance, red or blue. A single
crop_and_resize does zoom, shift, stretch and flip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.dataset import IGNORED_LABEL, PADDING_LABEL

# An object of which less than this is left in the crop counts neither as an object nor as background.
MIN_VISIBLE_SHARE = 0.35
FILL = 127.0
# The last two rows of YIQ span colour, so that a rotation there is a change of hue.
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_YIQ_TO_RGB = ((1.0, 0.956, 0.621), (1.0, -0.272, -0.647), (1.0, -1.106, 1.703))


@dataclass(frozen=True)
class Augmentation:
    """Ranges to draw from; `zoom` is the side of the crop relative to the image, so that below 1 objects grow."""

    zoom: tuple[float, float] = (0.7, 1.2)
    stretch: float = 1.15
    horizontal_flip: bool = True
    vertical_flip: bool = False
    brightness: float = 0.12
    contrast: tuple[float, float] = (0.75, 1.3)
    saturation: tuple[float, float] = (0.7, 1.4)
    hue: float = 0.02
    cutout: float = 0.1


def augment(
    *,
    canvases: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    side: tf.Tensor,
    settings: Augmentation,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes a batch for the network: images float32 -1…1 (batch, side, side, 3), boxes and labels.

    `seed` is int32 (2,); the other arguments are shaped as in `dataset.Batch`.
    """
    batch = canvases.shape[0]
    windows = random_crops(seed, batch=batch, settings=settings)
    flips = random_flips(seed, batch=batch, settings=settings)
    images = crop_and_flip(canvases, windows, flips, side) / 127.5 - 1.0
    images = random_cutout(random_color(images, seed, settings=settings), seed, settings=settings)
    return images, *transform_boxes(boxes, labels, windows, flips)


def random_crops(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """Windows (batch, 4) as ymin, xmin, ymax, xmax relative to the image; they may reach beyond it."""
    low, high = (float(v) for v in settings.zoom)
    zoom = tf.exp(_uniform(seed, 0, [batch], tf.math.log(low), tf.math.log(high)))
    limit = tf.math.log(settings.stretch) / 2
    stretch = tf.exp(_uniform(seed, 1, [batch], -limit, limit))
    size = tf.stack([zoom * stretch, zoom / stretch], axis=-1)
    corner = _uniform(seed, 2, [batch, 2], 0.0, 1.0) * (1.0 - size)
    return tf.concat([corner, corner + size], axis=-1)


def random_flips(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """(batch, 2) of bool: flip top to bottom, flip left to right."""
    chance = _uniform(seed, 3, [batch, 2], 0.0, 1.0) < 0.5
    return chance & tf.constant([settings.vertical_flip, settings.horizontal_flip])


def crop_and_flip(canvases: tf.Tensor, windows: tf.Tensor, flips: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Resamples the windows as float32 0…255 (batch, side, side, 3), with pixel centres where Pillow has them."""
    source = tf.cast(tf.shape(canvases)[1], tf.float32)
    target = tf.cast(side, tf.float32)
    start, stop = windows[:, :2], windows[:, 2:]
    half = 0.5 * (stop - start) * source / target
    low = (start * source + half - 0.5) / (source - 1.0)
    high = (stop * source - half - 0.5) / (source - 1.0)
    boxes = tf.concat([tf.where(flips, high, low), tf.where(flips, low, high)], axis=-1)
    rows = tf.range(tf.shape(canvases)[0])
    return tf.image.crop_and_resize(canvases, boxes, rows, [side, side], extrapolation_value=FILL)


def transform_boxes(
    boxes: tf.Tensor, labels: tf.Tensor, windows: tf.Tensor, flips: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the boxes relative to their windows and clipped, and the labels.

    The label of an object outside the window is PADDING_LABEL, that of one with too little left IGNORED_LABEL.
    """
    start, size = windows[:, None, :2], windows[:, None, 2:] - windows[:, None, :2]
    low, high = (boxes[..., :2] - start) / size, (boxes[..., 2:] - start) / size
    flipped = flips[:, None, :]
    low, high = tf.where(flipped, 1.0 - high, low), tf.where(flipped, 1.0 - low, high)
    visible_low, visible_high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    area = tf.reduce_prod(high - low, axis=-1)
    share = tf.reduce_prod(visible_high - visible_low, axis=-1) / tf.maximum(area, 1e-9)
    kept = tf.where(share > 0.0, tf.where(share < MIN_VISIBLE_SHARE, IGNORED_LABEL, labels), PADDING_LABEL)
    return tf.concat([visible_low, visible_high], axis=-1), tf.where(labels >= 0, kept, labels)


def random_color(images: tf.Tensor, seed: tf.Tensor, *, settings: Augmentation) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue of float images -1…1; the result stays in that range."""
    batch = images.shape[0]
    matrix = _color_matrix(seed, batch=batch, settings=settings)
    shift = _uniform(seed, 7, [batch, 1, 1, 1], -2 * settings.brightness, 2 * settings.brightness)
    flat = tf.reshape(images, [batch, -1, 3]) @ matrix
    return tf.clip_by_value(tf.reshape(flat, tf.shape(images)) + shift, -1.0, 1.0)


def _color_matrix(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """(batch, 3, 3) for row vectors of RGB: contrast, saturation and hue in one."""
    contrast = _uniform(seed, 4, [batch], *settings.contrast)
    saturation = _uniform(seed, 5, [batch], *settings.saturation)
    limit = 2.0 * math.pi * settings.hue
    angle = _uniform(seed, 6, [batch], -limit, limit)
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    one, zero = tf.ones_like(cos), tf.zeros_like(cos)
    rotation = tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1)
    combined = tf.constant(_YIQ_TO_RGB) @ tf.reshape(rotation, [-1, 3, 3]) @ tf.constant(_RGB_TO_YIQ)
    return tf.transpose(combined * contrast[:, None, None], [0, 2, 1])


def random_cutout(images: tf.Tensor, seed: tf.Tensor, *, settings: Augmentation) -> tf.Tensor:
    """Puts a grey patch of up to a quarter of the side into some images, because robots are often half hidden."""
    batch = images.shape[0]
    center = _uniform(seed, 8, [batch, 2], 0.0, 1.0)
    extent = _uniform(seed, 9, [batch, 2], 0.05, 0.25) / 2
    chosen = _uniform(seed, 10, [batch, 1, 1], 0.0, 1.0) < settings.cutout
    line = tf.linspace(0.0, 1.0, tf.shape(images)[1])
    inside = tf.abs(line[None, :, None] - center[:, None, :]) < extent[:, None, :]
    patch = inside[:, :, None, 0] & inside[:, None, :, 1] & chosen
    return tf.where(patch[..., None], 0.0, images)


def _uniform(seed: tf.Tensor, stream: int, shape: list[int], low: float, high: float) -> tf.Tensor:
    """Draws from one of the independent streams of a seed."""
    key = tf.random.experimental.stateless_fold_in(seed, stream)
    return tf.random.stateless_uniform(shape, key, low, high)
