"""Which anchor answers for which object.

FPN-Lite uses adaptive selection (ATSS, Zhang et al. 2020): for each object the anchors nearest to its centre are
candidates at every level, and those become positive whose overlap exceeds the candidates' mean plus one standard
deviation and whose centre lies inside the object. Classic SSD uses the overlap threshold of TF-OD's argmax matcher,
with every object forced onto its best anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_stages.train.anchors import to_corners

if TYPE_CHECKING:
    import tensorflow as tf

CANDIDATES_PER_LEVEL = 9
ARGMAX_THRESHOLD = 0.5
EPSILON = 1e-9


@dataclass(frozen=True)
class Matches:
    """For each anchor (batch, anchors): the index of its object, and whether it is positive, or ignored in the loss."""

    objects: tf.Tensor
    positive: tf.Tensor
    ignored: tf.Tensor


def pairwise_iou(anchors: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Overlap of corner anchors (anchors, 4) with corner boxes (batch, objects, 4): (batch, anchors, objects)."""
    import tensorflow as tf

    a, b = anchors[None, :, None, :], boxes[:, None, :, :]
    low, high = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
    inner = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    areas = tf.reduce_prod(a[..., 2:] - a[..., :2], axis=-1) + tf.reduce_prod(b[..., 2:] - b[..., :2], axis=-1)
    return inner / tf.maximum(areas - inner, EPSILON)


def _inside(centers: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """(batch, anchors, objects): the anchor's centre lies in the box."""
    import tensorflow as tf

    c, b = centers[None, :, None, :], boxes[:, None, :, :]
    return tf.reduce_all((c >= b[..., :2]) & (c <= b[..., 2:]), axis=-1)


def _candidates(distance: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """(batch, anchors, objects) of bool: among the nearest of its level. Ties beyond the count stay in."""
    import tensorflow as tf

    masks = []
    for level in tf.split(distance, levels, axis=1, num=levels.shape[0]):
        count = tf.minimum(CANDIDATES_PER_LEVEL, tf.shape(level)[1])
        nearest, _ = tf.math.top_k(-tf.transpose(level, [0, 2, 1]), k=count)
        masks.append(-level >= tf.transpose(nearest[..., -1:], [0, 2, 1]))
    return tf.concat(masks, axis=1)


def _assign(score: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each anchor's best object among the `chosen` pairs, and whether there is one."""
    import tensorflow as tf

    scored = tf.where(chosen, score, -1.0)
    return tf.argmax(scored, axis=-1, output_type=tf.int32), tf.reduce_any(chosen, axis=-1)


def _neutral(centers: tf.Tensor, boxes: tf.Tensor, present: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
    """Anchors inside an object that is neither to be found nor background (cut away by augmentation)."""
    import tensorflow as tf

    touched = tf.reduce_any(_inside(centers, boxes) & present[:, None, :], axis=-1)
    return touched & ~positive


def match_adaptive(*, anchors: tf.Tensor, levels: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> Matches:
    """ATSS. `anchors` (anchors, 4) centred; `boxes` (batch, objects, 4) corners; `labels` (batch, objects): class
    from 0, -1 for padding, -2 for objects whose surroundings do not count."""
    import tensorflow as tf

    real = labels >= 0
    iou = pairwise_iou(to_corners(anchors), boxes)
    box_centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = tf.reduce_sum((anchors[None, :, None, :2] - box_centers[:, None]) ** 2, axis=-1)
    candidate = _candidates(distance, levels)
    weight = tf.cast(candidate, tf.float32)
    count = tf.reduce_sum(weight, axis=1, keepdims=True)
    mean = tf.reduce_sum(iou * weight, axis=1, keepdims=True) / count
    variance = tf.reduce_sum(weight * (iou - mean) ** 2, axis=1, keepdims=True) / tf.maximum(count - 1.0, 1.0)
    chosen = candidate & (iou >= mean + tf.sqrt(variance)) & _inside(anchors[:, :2], boxes) & real[:, None, :]
    # An object smaller than a cell may hold no anchor centre at all; its best candidate answers for it.
    best = candidate & (iou >= tf.reduce_max(tf.where(candidate, iou, -1.0), axis=1, keepdims=True))
    lonely = ~tf.reduce_any(chosen, axis=1, keepdims=True)
    chosen |= best & lonely & real[:, None, :]
    objects, positive = _assign(iou, chosen)
    return Matches(objects, positive, _neutral(anchors[:, :2], boxes, labels == -2, positive))


def match_argmax(*, anchors: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> Matches:
    """Overlap of at least one half, and each object's best anchor in any case. Arguments as `match_adaptive`."""
    import tensorflow as tf

    real = (labels >= 0)[:, None, :]
    iou = tf.where(real, pairwise_iou(to_corners(anchors), boxes), 0.0)
    forced = real & (iou >= tf.reduce_max(iou, axis=1, keepdims=True)) & (iou > 0.0)
    # Forced pairs outrank any overlap, so that no object loses its only anchor to a neighbour.
    objects, positive = _assign(iou + 2.0 * tf.cast(forced, tf.float32), (iou >= ARGMAX_THRESHOLD) & real | forced)
    return Matches(objects, positive, _neutral(anchors[:, :2], boxes, labels == -2, positive))
