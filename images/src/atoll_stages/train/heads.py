"""What the outputs of a network mean: how they are trained, and how they become boxes.

Each architecture has one head. A network gives class logits (batch, anchors, classes) and box codes (batch, anchors,
codes), with anchors in the order of `generate_anchors`. `anchors` are centred (anchors, 4); boxes and labels are those
of `match_anchors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import decode_boxes, match_anchors
from atoll_stages.train.distribution_loss import aligned_loss, decode_distributions
from atoll_stages.train.losses import Losses, detection_loss


@dataclass(frozen=True)
class Targets:
    """The objects of a batch: boxes (batch, objects, 4) and labels (batch, objects)."""

    boxes: tf.Tensor
    labels: tf.Tensor


class Head(Protocol):
    """A kind of head."""

    def loss(
        self, logits: tf.Tensor, codes: tf.Tensor, *, anchors: tf.Tensor, levels: tf.Tensor, targets: Targets
    ) -> Losses:
        """Assigns the objects to anchors, and returns the loss of a batch; `levels` are the anchors of each level."""
        ...

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """Returns the corner boxes of codes."""
        ...

    def scores(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the scores of all classes that suppression works on."""
        ...


@dataclass(frozen=True)
class SsdHead:
    """Boxes are offsets from anchor boxes; each class of an anchor is a detection of its own."""

    architecture: Architecture

    def loss(
        self, logits: tf.Tensor, codes: tf.Tensor, *, anchors: tf.Tensor, levels: tf.Tensor, targets: Targets
    ) -> Losses:
        boxes, labels = targets.boxes, targets.labels
        matches = match_anchors(self.architecture, anchors=anchors, levels=levels, boxes=boxes, labels=labels)
        return detection_loss(logits=logits, codes=codes, anchors=anchors, matches=matches, boxes=boxes, labels=labels)

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        return decode_boxes(codes, anchors)

    def scores(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(logits)


@dataclass(frozen=True)
class DistributionHead:
    """Boxes are distributions of distances from cells; a cell is a detection of its best class."""

    def loss(
        self, logits: tf.Tensor, codes: tf.Tensor, *, anchors: tf.Tensor, levels: tf.Tensor, targets: Targets
    ) -> Losses:
        del levels  # cells of all levels are compared with one another
        return aligned_loss(logits=logits, codes=codes, cells=anchors, boxes=targets.boxes, labels=targets.labels)

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        return decode_distributions(codes, anchors)

    def scores(self, logits: tf.Tensor) -> tf.Tensor:
        best = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
        return tf.sigmoid(logits) * best


def head_of(architecture: Architecture) -> Head:
    """Returns the head of an architecture."""
    return DistributionHead() if architecture.has_distributions else SsdHead(architecture)
