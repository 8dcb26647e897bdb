"""The loss of a detector whose boxes are distributions: generalised focal loss (Li et al. 2020).

Classes have quality focal loss, whose target is how well a cell is aligned with its object. Boxes have generalised-IoU
loss and, for the distribution of each distance, distribution focal loss.
"""

from __future__ import annotations

import tensorflow as tf

from atoll_contract.box_distributions import BINS
from atoll_stages.train.losses import Losses, giou, quality_focal_loss
from atoll_stages.train.task_alignment import align_cells

IOU_WEIGHT, DISTRIBUTION_WEIGHT = 2.0, 0.25
# The largest distance that lies between two bins.
MAX_DISTANCE = BINS - 1.01


def decode_distributions(codes: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Decodes codes (…, 4 × BINS) at centred cells (…, 4) to corner boxes, as `box_distributions.decode`."""
    shape = tf.concat([tf.shape(codes)[:-1], [4, BINS]], axis=0)
    weights = tf.nn.softmax(tf.reshape(codes, shape), axis=-1)
    # A sum instead of a product of matrices: it is computed in the order of the bins on every machine.
    distances = tf.reduce_sum(weights * tf.range(BINS, dtype=tf.float32), axis=-1)
    before, after = tf.gather(distances, [1, 0], axis=-1), tf.gather(distances, [3, 2], axis=-1)
    center, size = cells[..., :2], cells[..., 2:]
    return tf.concat([center - before * size, center + after * size], axis=-1)


def encode_distances(boxes: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Returns the distances (…, 4) to left, top, right and bottom in strides, cut to what the bins can say."""
    center, size = cells[..., :2], cells[..., 2:]
    before, after = (center - boxes[..., :2]) / size, (boxes[..., 2:] - center) / size
    distances = tf.concat([tf.reverse(before, [-1]), tf.reverse(after, [-1])], axis=-1)
    return tf.clip_by_value(distances, 0.0, MAX_DISTANCE)


def aligned_loss(
    *, logits: tf.Tensor, codes: tf.Tensor, cells: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor
) -> Losses:
    """Returns the loss of a batch, computed in float32; arguments as the model gives them and as for `align_cells`."""
    logits, codes = tf.cast(logits, tf.float32), tf.cast(codes, tf.float32)
    predicted = decode_distributions(codes, cells[None])
    aligned = align_cells(
        scores=tf.stop_gradient(tf.sigmoid(logits)),
        predicted=tf.stop_gradient(predicted),
        cells=cells,
        boxes=boxes,
        labels=labels,
    )
    weight = aligned.alignment
    total = tf.maximum(tf.reduce_sum(weight), 1.0)
    own_labels = tf.gather(labels, aligned.objects, batch_dims=1)
    targets = tf.one_hot(own_labels, logits.shape[-1]) * weight[..., None]
    counted = 1.0 - tf.cast(aligned.ignored, tf.float32)
    classification = tf.reduce_sum(quality_focal_loss(logits, targets) * counted[..., None]) / total
    own_boxes = tf.gather(boxes, aligned.objects, batch_dims=1)
    overlap = tf.reduce_sum((1.0 - giou(predicted, own_boxes)) * weight) / total
    distances = encode_distances(own_boxes, cells[None])
    distribution = tf.reduce_sum(distribution_focal_loss(codes, distances) * weight) / total
    box = overlap + DISTRIBUTION_WEIGHT / IOU_WEIGHT * distribution
    return Losses(classification + IOU_WEIGHT * box, classification, box)


def distribution_focal_loss(codes: tf.Tensor, distances: tf.Tensor) -> tf.Tensor:
    """Mean over the four sides of the cross entropy with the two bins around each distance (…, 4), weighted by how near
    they are."""
    shape = tf.concat([tf.shape(distances), [BINS]], axis=0)
    logs = tf.nn.log_softmax(tf.reshape(codes, shape), axis=-1)
    bins = tf.range(BINS, dtype=tf.float32)
    # 1 at the distance itself, 0 from the next bins on.
    share = tf.maximum(1.0 - tf.abs(distances[..., None] - bins), 0.0)
    return -tf.reduce_mean(tf.reduce_sum(share * logs, axis=-1), axis=-1)
