"""Task-aligned assignment (Feng et al. 2021): an object takes the cells that already score and place it best.

Boxes are corner boxes, relative; `labels` are those of `match_anchors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from atoll_stages.train.anchors import center_inside, pairwise_iou
from atoll_stages.train.dataset import IGNORED_LABEL

# Exponents of the score and of the IoU in the alignment, and the cells of an object: the paper's. With half of that
# exponent of the score, as YOLOv8 has it, an object's score spreads over more cells, and ranks objects less well.
SCORE_EXPONENT, IOU_EXPONENT = 1.0, 6.0
CELLS_PER_OBJECT = 13


@dataclass(frozen=True)
class AlignedCells:
    """For each cell (batch, cells): its object, how well it is aligned with it (0: a cell of the background), and
    whether it counts neither as object nor as background."""

    objects: tf.Tensor
    alignment: tf.Tensor
    ignored: tf.Tensor


def align_cells(
    *, scores: tf.Tensor, predicted: tf.Tensor, cells: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor
) -> AlignedCells:
    """Assigns objects to cells by what the network predicts at present.

    `scores` are (batch, cells, classes) from 0 to 1, `predicted` (batch, cells, 4), `cells` centred (cells, 4),
    `boxes` (batch, objects, 4). The best cell of an object has the alignment of the object's best IoU.
    """
    present = (labels >= 0)[:, None, :]
    iou = pairwise_iou(predicted, boxes)
    own_scores = tf.gather(scores, tf.maximum(labels, 0), axis=2, batch_dims=1)
    candidate = _candidates(cells, boxes) & present
    metric = tf.where(candidate, own_scores**SCORE_EXPONENT * iou**IOU_EXPONENT, 0.0)
    chosen = candidate & (metric >= _lowest_chosen(metric))
    # A cell of several objects belongs to the one that its box covers best.
    objects = tf.argmax(tf.where(chosen, iou, -1.0), axis=-1, output_type=tf.int32)
    chosen &= tf.one_hot(objects, tf.shape(boxes)[1], on_value=True, off_value=False)
    metric, iou = tf.where(chosen, metric, 0.0), tf.where(chosen, iou, 0.0)
    best_metric, best_iou = (tf.reduce_max(value, axis=1, keepdims=True) for value in (metric, iou))
    alignment = tf.reduce_sum(tf.math.divide_no_nan(metric, best_metric) * best_iou, axis=-1)
    ignored = (labels == IGNORED_LABEL)[:, None, :] & center_inside(cells[:, :2], boxes)
    return AlignedCells(objects, alignment, tf.reduce_any(ignored, axis=-1) & (alignment <= 0.0))


def _candidates(cells: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """(batch, cells, objects) of bool: the cell's centre is in the box, or the box holds no centre and this is the
    nearest."""
    inside = center_inside(cells[:, :2], boxes)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = tf.reduce_sum((cells[None, :, None, :2] - middle[:, None]) ** 2, axis=-1)
    nearest = distance <= tf.reduce_min(distance, axis=1, keepdims=True)
    return inside | (nearest & ~tf.reduce_any(inside, axis=1, keepdims=True))


def _lowest_chosen(metric: tf.Tensor) -> tf.Tensor:
    """(batch, 1, objects): the metric of the last cell that an object takes."""
    count = tf.minimum(CELLS_PER_OBJECT, tf.shape(metric)[1])
    best, _ = tf.math.top_k(tf.transpose(metric, [0, 2, 1]), k=count)
    # Cells without any overlap stay background.
    return tf.transpose(tf.maximum(best[..., -1:], tf.constant(1e-30)), [0, 2, 1])
