"""The detection loss: focal loss of the classes and generalised-IoU loss of the boxes, both per positive anchor."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.anchors import EPSILON, AnchorMatches, decode_boxes

FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class Losses:
    """Scalars; `total` is minimised, and does not include weight decay."""

    total: tf.Tensor
    classification: tf.Tensor
    box: tf.Tensor


def detection_loss(
    *,
    logits: tf.Tensor,
    codes: tf.Tensor,
    anchors: tf.Tensor,
    matches: AnchorMatches,
    boxes: tf.Tensor,
    labels: tf.Tensor,
) -> Losses:
    """Returns the loss of a batch, computed in float32.

    `logits` (batch, anchors, classes) and `codes` (batch, anchors, 4) are the model's outputs; the rest is shaped as
    for `match_anchors`.
    """
    logits, codes = tf.cast(logits, tf.float32), tf.cast(codes, tf.float32)
    positive = tf.cast(matches.positive, tf.float32)
    count = tf.maximum(tf.reduce_sum(positive), 1.0)
    matched_labels = tf.gather(labels, matches.objects, batch_dims=1)
    targets = tf.one_hot(tf.where(matches.positive, matched_labels, -1), logits.shape[-1])
    counted = 1.0 - tf.cast(matches.ignored, tf.float32)
    classification = tf.reduce_sum(focal_loss(logits, targets) * counted[..., None]) / count
    predicted = decode_boxes(codes, anchors[None])
    matched_boxes = tf.gather(boxes, matches.objects, batch_dims=1)
    box = tf.reduce_sum((1.0 - giou(predicted, matched_boxes)) * positive) / count
    return Losses(classification + BOX_WEIGHT * box, classification, box)


def focal_loss(
    logits: tf.Tensor, targets: tf.Tensor, *, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA
) -> tf.Tensor:
    """Sigmoid focal loss (Lin et al. 2017) of each element; targets are 0 or 1."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    p = tf.sigmoid(logits)
    error = targets * (1.0 - p) + (1.0 - targets) * p
    weight = targets * alpha + (1.0 - targets) * (1.0 - alpha)
    return weight * error**gamma * entropy


def giou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of corner boxes along the last axis: 1 if equal, near -1 far apart."""
    low, high = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
    intersection = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    union = _area(a) + _area(b) - intersection
    hull_low, hull_high = tf.minimum(a[..., :2], b[..., :2]), tf.maximum(a[..., 2:], b[..., 2:])
    hull = tf.reduce_prod(hull_high - hull_low, axis=-1)
    return intersection / tf.maximum(union, EPSILON) - (hull - union) / tf.maximum(hull, EPSILON)


def _area(box: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(box[..., 2:] - box[..., :2], axis=-1)
