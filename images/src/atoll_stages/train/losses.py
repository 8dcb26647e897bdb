"""Focal classification loss and generalised-IoU box loss, both per positive anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from atoll_stages.train.anchors import decode

if TYPE_CHECKING:
    from atoll_stages.train.anchors import Matches


FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
BOX_WEIGHT = 2.0
EPSILON = 1e-9


@dataclass(frozen=True)
class Losses:
    """Scalars; `total` is what is minimised, without weight decay."""

    total: tf.Tensor
    classification: tf.Tensor
    box: tf.Tensor


def focal(
    logits: tf.Tensor, targets: tf.Tensor, *, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA
) -> tf.Tensor:
    """Sigmoid focal loss (Lin et al. 2017), elementwise; targets 0 or 1."""
    import tensorflow as tf

    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    p = tf.sigmoid(logits)
    miss = targets * (1.0 - p) + (1.0 - targets) * p
    weight = targets * alpha + (1.0 - targets) * (1.0 - alpha)
    return weight * miss**gamma * entropy


def giou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of corner boxes, along the last axis: 1 equal … -1 far apart."""
    import tensorflow as tf

    low, high = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
    inner = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    union = _area(a) + _area(b) - inner
    hull_low, hull_high = tf.minimum(a[..., :2], b[..., :2]), tf.maximum(a[..., 2:], b[..., 2:])
    hull = tf.reduce_prod(hull_high - hull_low, axis=-1)
    return inner / tf.maximum(union, EPSILON) - (hull - union) / tf.maximum(hull, EPSILON)


def _area(box: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.reduce_prod(box[..., 2:] - box[..., :2], axis=-1)


def detection_loss(
    *,
    logits: tf.Tensor,
    codes: tf.Tensor,
    anchors: tf.Tensor,
    matches: Matches,
    boxes: tf.Tensor,
    labels: tf.Tensor,
) -> Losses:
    """The loss of a batch. Shapes as the model's outputs and `match_adaptive`; computed in float32."""
    import tensorflow as tf

    logits, codes = tf.cast(logits, tf.float32), tf.cast(codes, tf.float32)
    positive = tf.cast(matches.positive, tf.float32)
    count = tf.maximum(tf.reduce_sum(positive), 1.0)
    matched_labels = tf.gather(labels, matches.objects, batch_dims=1)
    targets = tf.one_hot(tf.where(matches.positive, matched_labels, -1), logits.shape[-1])
    counted = 1.0 - tf.cast(matches.ignored, tf.float32)
    classification = tf.reduce_sum(focal(logits, targets) * counted[..., None]) / count
    predicted = decode(codes, anchors[None])
    matched_boxes = tf.gather(boxes, matches.objects, batch_dims=1)
    box = tf.reduce_sum((1.0 - giou(predicted, matched_boxes)) * positive) / count
    return Losses(classification + BOX_WEIGHT * box, classification, box)
