"""Augmentation of a batch inside the TensorFlow graph, its randomness keyed by seed and step alone.

Hue moves little: colour is identity on a field of red and blue. All pictures keep their size relation to the input,
so one crop_and_resize does zoom, shift, stretch and flip.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

# An object of which less is left in the crop is neither found nor background.
VISIBLE_SHARE = 0.35
NEUTRAL = -2
FILL = 127.0
# Rows of YIQ; its last two span colour, so a turn there is a change of hue.
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_RGB = ((1.0, 0.956, 0.621), (1.0, -0.272, -0.647), (1.0, -1.106, 1.703))


@dataclass(frozen=True)
class Augmentation:
    """Ranges to draw from; `zoom` is the side of the crop relative to the picture, below 1 enlarges."""

    zoom: tuple[float, float] = (0.7, 1.2)
    stretch: float = 1.15
    horizontal_flip: bool = True
    vertical_flip: bool = False
    brightness: float = 0.12
    contrast: tuple[float, float] = (0.75, 1.3)
    saturation: tuple[float, float] = (0.7, 1.4)
    hue: float = 0.02
    cutout: float = 0.1


def _draw(seed: tf.Tensor, stream: int, shape: list[int], low: float, high: float) -> tf.Tensor:
    import tensorflow as tf

    key = tf.random.experimental.stateless_fold_in(seed, stream)
    return tf.random.stateless_uniform(shape, key, low, high)


def crop_windows(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """Windows (batch, 4) as ymin, xmin, ymax, xmax of the picture; they may reach beyond it."""
    import tensorflow as tf

    low, high = (float(v) for v in settings.zoom)
    zoom = tf.exp(_draw(seed, 0, [batch], tf.math.log(low), tf.math.log(high)))
    bend = tf.math.log(settings.stretch) / 2
    stretch = tf.exp(_draw(seed, 1, [batch], -bend, bend))
    size = tf.stack([zoom * stretch, zoom / stretch], axis=-1)
    corner = _draw(seed, 2, [batch, 2], 0.0, 1.0) * (1.0 - size)
    return tf.concat([corner, corner + size], axis=-1)


def mirror(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """(batch, 2) of bool: flip top to bottom, flip left to right."""
    import tensorflow as tf

    chance = _draw(seed, 3, [batch, 2], 0.0, 1.0) < 0.5
    return chance & tf.constant([settings.vertical_flip, settings.horizontal_flip])


def sample(canvases: tf.Tensor, windows: tf.Tensor, flips: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """The windows of the canvases as float32 0…255 (batch, side, side, 3), pixel centres as Pillow has them."""
    import tensorflow as tf

    source = tf.cast(tf.shape(canvases)[1], tf.float32)
    target = tf.cast(side, tf.float32)
    start, stop = windows[:, :2], windows[:, 2:]
    half = 0.5 * (stop - start) * source / target
    low = (start * source + half - 0.5) / (source - 1.0)
    high = (stop * source - half - 0.5) / (source - 1.0)
    boxes = tf.concat([tf.where(flips, high, low), tf.where(flips, low, high)], axis=-1)
    rows = tf.range(tf.shape(canvases)[0])
    return tf.image.crop_and_resize(canvases, boxes, rows, [side, side], extrapolation_value=FILL)


def move_boxes(
    boxes: tf.Tensor, labels: tf.Tensor, windows: tf.Tensor, flips: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes and labels as seen in their windows: clipped; gone (-1) or neutral where too little is left."""
    import tensorflow as tf

    start, size = windows[:, None, :2], windows[:, None, 2:] - windows[:, None, :2]
    low, high = (boxes[..., :2] - start) / size, (boxes[..., 2:] - start) / size
    turned = flips[:, None, :]
    low, high = tf.where(turned, 1.0 - high, low), tf.where(turned, 1.0 - low, high)
    seen_low, seen_high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    area = tf.reduce_prod(high - low, axis=-1)
    share = tf.reduce_prod(seen_high - seen_low, axis=-1) / tf.maximum(area, 1e-9)
    kept = tf.where(share > 0.0, tf.where(share < VISIBLE_SHARE, NEUTRAL, labels), -1)
    return tf.concat([seen_low, seen_high], axis=-1), tf.where(labels >= 0, kept, labels)


def _colour_matrix(seed: tf.Tensor, *, batch: int, settings: Augmentation) -> tf.Tensor:
    """(batch, 3, 3) for row vectors of RGB: contrast, saturation and hue in one."""
    import math

    import tensorflow as tf

    contrast = _draw(seed, 4, [batch], *settings.contrast)
    saturation = _draw(seed, 5, [batch], *settings.saturation)
    turn = 2.0 * math.pi * settings.hue
    angle = _draw(seed, 6, [batch], -turn, turn)
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    one, zero = tf.ones_like(cos), tf.zeros_like(cos)
    middle = tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1)
    in_yiq = tf.reshape(middle, [-1, 3, 3])
    combined = tf.constant(_RGB) @ in_yiq @ tf.constant(_YIQ)
    return tf.transpose(combined * contrast[:, None, None], [0, 2, 1])


def colour(pictures: tf.Tensor, seed: tf.Tensor, *, settings: Augmentation) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue of float pictures -1…1; the result stays in that range."""
    import tensorflow as tf

    batch = pictures.shape[0]
    matrix = _colour_matrix(seed, batch=batch, settings=settings)
    shift = _draw(seed, 7, [batch, 1, 1, 1], -2 * settings.brightness, 2 * settings.brightness)
    flat = tf.reshape(pictures, [batch, -1, 3]) @ matrix
    return tf.clip_by_value(tf.reshape(flat, tf.shape(pictures)) + shift, -1.0, 1.0)


def cut_out(pictures: tf.Tensor, seed: tf.Tensor, *, settings: Augmentation) -> tf.Tensor:
    """In some pictures one grey patch of up to a quarter of the side: robots are often half hidden."""
    import tensorflow as tf

    batch = pictures.shape[0]
    place = _draw(seed, 8, [batch, 2], 0.0, 1.0)
    extent = _draw(seed, 9, [batch, 2], 0.05, 0.25) / 2
    chosen = _draw(seed, 10, [batch, 1, 1], 0.0, 1.0) < settings.cutout
    line = tf.linspace(0.0, 1.0, tf.shape(pictures)[1])
    inside = tf.abs(line[None, :, None] - place[:, None, :]) < extent[:, None, :]
    patch = inside[:, :, None, 0] & inside[:, None, :, 1] & chosen
    return tf.where(patch[..., None], 0.0, pictures)


def augment(
    *,
    canvases: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    side: tf.Tensor,
    settings: Augmentation,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A batch for the network: pictures float32 -1…1 (batch, side, side, 3), boxes, labels. `seed` is int32 (2,)."""
    batch = canvases.shape[0]
    windows = crop_windows(seed, batch=batch, settings=settings)
    flips = mirror(seed, batch=batch, settings=settings)
    pictures = sample(canvases, windows, flips, side) / 127.5 - 1.0
    pictures = cut_out(colour(pictures, seed, settings=settings), seed, settings=settings)
    moved, kept = move_boxes(boxes, labels, windows, flips)
    return pictures, moved, kept
