"""Anchor boxes and the box coder. Boxes are (ymin, xmin, ymax, xmax), relative to the picture's sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from atoll_contract.stage import Architecture

# The scales of the Faster R-CNN box coder (y, x, h, w); the post-processing op of the exported file gets the same.
BOX_SCALES = (10.0, 10.0, 5.0, 5.0)
# Corners decoded from a wild log-size would overflow float32; e^(20/5) is 55 times the anchor.
MAX_LOG_SIZE = 20.0

FPN_STRIDES = (8, 16, 32, 64)
# Side of an FPN anchor in strides. One square anchor a cell: what an object is matched to is decided by centre
# distance and overlap together (matching.py), and aspect is left to the box regression.
FPN_ANCHOR_STRIDES = 3.0

SSD_LEVELS = 6
SSD_MIN_SCALE, SSD_MAX_SCALE = 0.2, 0.95
SSD_ASPECTS = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)


@dataclass(frozen=True)
class AnchorSet:
    """All anchors of a detector, level after level, as the network's outputs are concatenated.

    `boxes` is float32 (anchors, 4) as (ycenter, xcenter, height, width), relative; `levels` the number of anchors of
    each level; `per_cell` the anchors of one cell at each level.
    """

    boxes: np.ndarray
    levels: tuple[int, ...]
    per_cell: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(self.boxes.shape[0])


def feature_sides(side: int, *, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Side of the feature map at each stride; `same` padding rounds up at every halving."""
    sides = []
    for stride in strides:
        size = side
        for _ in range(int(math.log2(stride))):
            size = (size + 1) // 2
        sides.append(size)
    return tuple(sides)


def _grid(side: int, shapes: np.ndarray) -> np.ndarray:
    """Anchors of the (height, width) `shapes` at every cell centre of a square map: row, then column, then shape."""
    centers = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = np.meshgrid(centers, centers, indexing="ij")
    points = np.stack([y, x], axis=-1).reshape(side * side, 1, 2)
    cells = np.broadcast_to(points, (side * side, len(shapes), 2))
    sizes = np.broadcast_to(shapes[None], (side * side, len(shapes), 2))
    return np.concatenate([cells, sizes], axis=-1).reshape(-1, 4).astype(np.float32)


def fpn_anchors(side: int) -> AnchorSet:
    """One square anchor of three strides for each cell of the levels at stride 8, 16, 32 and 64."""
    grids = []
    for stride, cells in zip(FPN_STRIDES, feature_sides(side, strides=FPN_STRIDES), strict=True):
        size = FPN_ANCHOR_STRIDES * stride / side
        grids.append(_grid(cells, np.array([[size, size]], np.float32)))
    return AnchorSet(np.concatenate(grids), tuple(len(grid) for grid in grids), (1,) * len(grids))


def ssd_shapes() -> list[np.ndarray]:
    """(height, width) of the anchors at each level, as TF-OD's ssd_anchor_generator makes them.

    The lowest level has three (a small square, 2:1 and 1:2), each other its scale in five aspects and one square of
    the geometric mean with the next scale.
    """
    scales = [SSD_MIN_SCALE + (SSD_MAX_SCALE - SSD_MIN_SCALE) * i / (SSD_LEVELS - 1) for i in range(SSD_LEVELS)]
    shapes = []
    for level, scale in enumerate(scales):
        if level == 0:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            following = scales[level + 1] if level + 1 < SSD_LEVELS else 1.0
            pairs = [(scale, aspect) for aspect in SSD_ASPECTS] + [(math.sqrt(scale * following), 1.0)]
        shapes.append(np.array([(s / math.sqrt(a), s * math.sqrt(a)) for s, a in pairs], np.float32))
    return shapes


def ssd_anchors(side: int) -> AnchorSet:
    """The anchors of the classic SSD; 1917 at 300 pixels."""
    strides = tuple(2 ** (4 + level) for level in range(SSD_LEVELS))
    shapes = ssd_shapes()
    grids = [_grid(cells, s) for cells, s in zip(feature_sides(side, strides=strides), shapes, strict=True)]
    return AnchorSet(np.concatenate(grids), tuple(len(grid) for grid in grids), tuple(len(s) for s in shapes))


def anchors_for(architecture: Architecture, side: int | None = None) -> AnchorSet:
    """The anchors of an architecture, at its own input side or another one (training at several sizes)."""
    make = ssd_anchors if architecture is Architecture.SSD_300 else fpn_anchors
    return make(side or architecture.side)


def to_corners(centered: tf.Tensor) -> tf.Tensor:
    """(ycenter, xcenter, height, width) to (ymin, xmin, ymax, xmax) along the last axis."""
    import tensorflow as tf

    center, size = centered[..., :2], centered[..., 2:]
    return tf.concat([center - size / 2, center + size / 2], axis=-1)


def encode(corners: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Corner boxes as offsets from their anchors (…, 4): ty, tx, th, tw of the Faster R-CNN coder."""
    import tensorflow as tf

    scales = tf.constant(BOX_SCALES)
    center = (corners[..., :2] + corners[..., 2:]) / 2
    size = tf.maximum(corners[..., 2:] - corners[..., :2], 1e-6)
    offset = (center - anchors[..., :2]) / anchors[..., 2:]
    return tf.concat([offset, tf.math.log(size / anchors[..., 2:])], axis=-1) * scales


def decode(codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """The inverse of `encode`."""
    import tensorflow as tf

    scales = tf.constant(BOX_SCALES)
    center = codes[..., :2] / scales[:2] * anchors[..., 2:] + anchors[..., :2]
    size = tf.exp(tf.clip_by_value(codes[..., 2:], -MAX_LOG_SIZE, MAX_LOG_SIZE) / scales[2:]) * anchors[..., 2:]
    return to_corners(tf.concat([center, size], axis=-1))


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
