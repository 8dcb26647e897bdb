"""Anchor boxes and the box coder. Boxes are (ymin, xmin, ymax, xmax), relative to the picture's sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atoll_contract.stage import Architecture

if TYPE_CHECKING:
    import tensorflow as tf

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
