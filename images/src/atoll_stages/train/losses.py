"""The detection loss: quality focal loss of the classes and generalised-IoU loss of the boxes, per positive anchor.

An anchor's score learns how well its box fits (Li et al. 2020), so that suppression keeps a good one of several boxes
of an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.anchors import EPSILON, AnchorMatches, decode_boxes, intersection_and_union

QUALITY_EXPONENT = 2.0
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
    predicted = decode_boxes(codes, anchors[None])
    matched_boxes = tf.gather(boxes, matches.objects, batch_dims=1)
    matched_labels = tf.gather(labels, matches.objects, batch_dims=1)
    quality = tf.stop_gradient(iou(predicted, matched_boxes)) * positive
    targets = tf.one_hot(matched_labels, logits.shape[-1]) * quality[..., None]
    counted = 1.0 - tf.cast(matches.ignored, tf.float32)
    classification = tf.reduce_sum(quality_focal_loss(logits, targets) * counted[..., None]) / count
    box = tf.reduce_sum((1.0 - giou(predicted, matched_boxes)) * positive) / count
    return Losses(classification + BOX_WEIGHT * box, classification, box)


def quality_focal_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Quality focal loss (Li et al. 2020) of each element; targets are from 0 to 1."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.abs(targets - tf.sigmoid(logits)) ** QUALITY_EXPONENT * entropy


def iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """IoU of corner boxes along the last axis."""
    intersection, union = intersection_and_union(a, b)
    return intersection / tf.maximum(union, EPSILON)


def giou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of corner boxes along the last axis: 1 if equal, near -1 far apart."""
    intersection, union = intersection_and_union(a, b)
    low, high = tf.minimum(a[..., :2], b[..., :2]), tf.maximum(a[..., 2:], b[..., 2:])
    hull = tf.reduce_prod(high - low, axis=-1)
    return intersection / tf.maximum(union, EPSILON) - (hull - union) / tf.maximum(hull, EPSILON)
