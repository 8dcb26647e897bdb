"""Anchors: their positions, the coding of boxes against them, and the matching of anchors to objects.

Boxes are (ymin, xmin, ymax, xmax) unless called centred: (ycenter, xcenter, height, width). Both are relative to the
image's sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from atoll_contract.box_distributions import STRIDES, cell_grid
from atoll_contract.train_spec import Architecture
from atoll_stages.train.dataset import IGNORED_LABEL

# The scales of the Faster R-CNN box coder (y, x, h, w); the post-processing op of the exported file gets the same.
BOX_SCALES = (10.0, 10.0, 5.0, 5.0)
# A box decoded from a very large log-size would overflow float32; e^(20/5) is 55 times the anchor.
MAX_LOG_SIZE = 20.0

FPN_STRIDES = (8, 16, 32, 64)
# Side of an FPN anchor in strides. One square anchor a cell: the matcher decides by centre distance and overlap
# together, and the box regression learns the aspect ratio.
FPN_ANCHOR_STRIDES = 3.0

SSD_LEVELS = 6
SSD_MIN_SCALE, SSD_MAX_SCALE = 0.2, 0.95
SSD_ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)

ATSS_CANDIDATES_PER_LEVEL = 9
ARGMAX_IOU_THRESHOLD = 0.5
EPSILON = 1e-9


@dataclass(frozen=True)
class AnchorSet:
    """All anchors of a detector, level after level, as the network's outputs are concatenated.

    `boxes` is float32 (anchors, 4), centred; `levels` is the number of anchors of each level.
    """

    boxes: np.ndarray
    levels: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(self.boxes.shape[0])


def generate_anchors(architecture: Architecture, side: int | None = None) -> AnchorSet:
    """Returns the anchors of an architecture, at its own input side or at another one (training uses several)."""
    side = side or architecture.side
    if architecture.has_distributions:
        return AnchorSet(cell_grid(side), tuple((side // stride) ** 2 for stride in STRIDES))
    return ssd_anchors(side) if architecture is Architecture.SSD_300 else fpn_anchors(side)


def fpn_anchors(side: int) -> AnchorSet:
    """One square anchor of three strides for each cell of the levels at stride 8, 16, 32 and 64."""
    levels = []
    for stride, cells in zip(FPN_STRIDES, feature_sides(side, strides=FPN_STRIDES), strict=True):
        size = FPN_ANCHOR_STRIDES * stride / side
        levels.append(_level_anchors(cells, np.array([[size, size]], np.float32)))
    return AnchorSet(np.concatenate(levels), tuple(len(level) for level in levels))


def ssd_anchors(side: int) -> AnchorSet:
    """The anchors of the classic SSD; 1917 at 300 pixels."""
    sides = feature_sides(side, strides=tuple(2 ** (4 + level) for level in range(SSD_LEVELS)))
    levels = [_level_anchors(cells, shapes) for cells, shapes in zip(sides, ssd_shapes(), strict=True)]
    return AnchorSet(np.concatenate(levels), tuple(len(level) for level in levels))


def ssd_shapes() -> list[np.ndarray]:
    """(height, width) of the anchors at each level, as TF-OD's ssd_anchor_generator makes them.

    The lowest level has three (a small square, 2:1 and 1:2). Every other level has its scale in five aspect ratios
    and one square whose scale is the geometric mean with the next level's.
    """
    scales = [SSD_MIN_SCALE + (SSD_MAX_SCALE - SSD_MIN_SCALE) * i / (SSD_LEVELS - 1) for i in range(SSD_LEVELS)]
    shapes = []
    for level, scale in enumerate(scales):
        if level == 0:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            following = scales[level + 1] if level + 1 < SSD_LEVELS else 1.0
            pairs = [(scale, aspect) for aspect in SSD_ASPECT_RATIOS] + [(math.sqrt(scale * following), 1.0)]
        shapes.append(np.array([(s / math.sqrt(a), s * math.sqrt(a)) for s, a in pairs], np.float32))
    return shapes


def feature_sides(side: int, *, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Side of the feature map at each stride; `same` padding rounds up at every halving."""
    sides = []
    for stride in strides:
        size = side
        for _ in range(int(math.log2(stride))):
            size = (size + 1) // 2
        sides.append(size)
    return tuple(sides)


def _level_anchors(side: int, shapes: np.ndarray) -> np.ndarray:
    """Anchors of the (height, width) `shapes` at every cell centre of a square map: row, then column, then shape."""
    centers = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = np.meshgrid(centers, centers, indexing="ij")
    points = np.stack([y, x], axis=-1).reshape(side * side, 1, 2)
    cells = np.broadcast_to(points, (side * side, len(shapes), 2))
    sizes = np.broadcast_to(shapes[None], (side * side, len(shapes), 2))
    return np.concatenate([cells, sizes], axis=-1).reshape(-1, 4).astype(np.float32)


def to_corners(centered: tf.Tensor) -> tf.Tensor:
    """Converts centred boxes to (ymin, xmin, ymax, xmax) along the last axis."""
    center, size = centered[..., :2], centered[..., 2:]
    return tf.concat([center - size / 2, center + size / 2], axis=-1)


def decode_boxes(codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Decodes codes (ty, tx, th, tw) of the Faster R-CNN coder against centred anchors (…, 4) to corner boxes."""
    scales = tf.constant(BOX_SCALES)
    center = codes[..., :2] / scales[:2] * anchors[..., 2:] + anchors[..., :2]
    size = tf.exp(tf.clip_by_value(codes[..., 2:], -MAX_LOG_SIZE, MAX_LOG_SIZE) / scales[2:]) * anchors[..., 2:]
    return to_corners(tf.concat([center, size], axis=-1))


@dataclass(frozen=True)
class AnchorMatches:
    """For each anchor (batch, anchors): the index of its object, and whether it is positive, or ignored in the loss."""

    objects: tf.Tensor
    positive: tf.Tensor
    ignored: tf.Tensor


def match_anchors(
    architecture: Architecture, *, anchors: tf.Tensor, levels: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor
) -> AnchorMatches:
    """Matches anchors to objects by the architecture's matcher.

    `anchors` are centred (anchors, 4), `levels` the number of anchors of each level, `boxes` (batch, objects, 4).
    `labels` (batch, objects) are classes from 0, PADDING_LABEL, or IGNORED_LABEL for objects of which too little is
    visible: anchors inside these count neither as objects nor as background.
    """
    if architecture is Architecture.SSD_300:
        return match_argmax(anchors=anchors, boxes=boxes, labels=labels)
    return match_atss(anchors=anchors, levels=levels, boxes=boxes, labels=labels)


def match_atss(*, anchors: tf.Tensor, levels: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> AnchorMatches:
    """Adaptive training sample selection (Zhang et al. 2020). Arguments as for `match_anchors`.

    Candidates of an object are the anchors nearest to its centre at each level. Those become positive whose centre is
    in the object and whose IoU reaches the candidates' mean plus one standard deviation.
    """
    present = labels >= 0
    iou = pairwise_iou(to_corners(anchors), boxes)
    box_centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = tf.reduce_sum((anchors[None, :, None, :2] - box_centers[:, None]) ** 2, axis=-1)
    candidate = _nearest_per_level(distance, levels)
    weight = tf.cast(candidate, tf.float32)
    count = tf.reduce_sum(weight, axis=1, keepdims=True)
    mean = tf.reduce_sum(iou * weight, axis=1, keepdims=True) / count
    variance = tf.reduce_sum(weight * (iou - mean) ** 2, axis=1, keepdims=True) / tf.maximum(count - 1.0, 1.0)
    matched = candidate & (iou >= mean + tf.sqrt(variance)) & center_inside(anchors[:, :2], boxes)
    matched &= present[:, None, :]
    # An object smaller than a cell may hold no anchor centre at all; it is matched to its best candidate.
    best = candidate & (iou >= tf.reduce_max(tf.where(candidate, iou, -1.0), axis=1, keepdims=True))
    unmatched = ~tf.reduce_any(matched, axis=1, keepdims=True)
    matched |= best & unmatched & present[:, None, :]
    return _matches(anchors, boxes, labels, iou, matched)


def match_argmax(*, anchors: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> AnchorMatches:
    """TF-OD's argmax matcher: IoU of at least one half, and the best anchor of each object in any case.

    Arguments as for `match_anchors`.
    """
    present = (labels >= 0)[:, None, :]
    iou = tf.where(present, pairwise_iou(to_corners(anchors), boxes), 0.0)
    forced = present & (iou >= tf.reduce_max(iou, axis=1, keepdims=True)) & (iou > 0.0)
    # Forced pairs outrank any overlap, so that no object loses its only anchor to a neighbour.
    score = iou + 2.0 * tf.cast(forced, tf.float32)
    return _matches(anchors, boxes, labels, score, (iou >= ARGMAX_IOU_THRESHOLD) & present | forced)


def pairwise_iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """IoU of corner boxes (anchors, 4) or (batch, anchors, 4) with (batch, objects, 4): (batch, anchors, objects)."""
    intersection, union = intersection_and_union(a[..., :, None, :], b[:, None, :, :])
    return intersection / tf.maximum(union, EPSILON)


def intersection_and_union(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Areas of corner boxes along the last axis; the other axes are broadcast."""
    low, high = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
    intersection = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    areas = tf.reduce_prod(a[..., 2:] - a[..., :2], axis=-1) + tf.reduce_prod(b[..., 2:] - b[..., :2], axis=-1)
    return intersection, areas - intersection


def _nearest_per_level(distance: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """(batch, anchors, objects) of bool: the anchor is among the nearest of its level. Ties are all included."""
    masks = []
    for level in tf.split(distance, levels, axis=1, num=levels.shape[0]):
        count = tf.minimum(ATSS_CANDIDATES_PER_LEVEL, tf.shape(level)[1])
        nearest, _ = tf.math.top_k(-tf.transpose(level, [0, 2, 1]), k=count)
        masks.append(-level >= tf.transpose(nearest[..., -1:], [0, 2, 1]))
    return tf.concat(masks, axis=1)


def center_inside(centers: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """(batch, anchors, objects) of bool: the anchor's centre is in the box."""
    c, b = centers[None, :, None, :], boxes[:, None, :, :]
    return tf.reduce_all((c >= b[..., :2]) & (c <= b[..., 2:]), axis=-1)


def _matches(
    anchors: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, score: tf.Tensor, matched: tf.Tensor
) -> AnchorMatches:
    """Gives each anchor the object of the highest score among the `matched` pairs (batch, anchors, objects)."""
    objects = tf.argmax(tf.where(matched, score, -1.0), axis=-1, output_type=tf.int32)
    positive = tf.reduce_any(matched, axis=-1)
    ignored = (labels == IGNORED_LABEL)[:, None, :] & center_inside(anchors[:, :2], boxes)
    return AnchorMatches(objects, positive, tf.reduce_any(ignored, axis=-1) & ~positive)
