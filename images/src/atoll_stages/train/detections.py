"""From the network's raw outputs to detections, as the post-processing op of the exported file does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SCORE_THRESHOLD = 0.01
IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Detections:
    """Of one picture, best score first: boxes (n, 4) as ymin, xmin, ymax, xmax relative; classes from 0; scores."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def suppress(logits: tf.Tensor, codes: tf.Tensor, anchors: tf.Tensor, *, most: int) -> tuple[tf.Tensor, ...]:
    """Non-maximum suppression per class: boxes (batch, most, 4), classes, scores (batch, most) and counts (batch,)."""
    import tensorflow as tf

    from atoll_stages.train.anchors import decode

    boxes = decode(codes, anchors[None])[:, :, None, :]
    scores = tf.sigmoid(logits)
    result = tf.image.combined_non_max_suppression(
        boxes,
        scores,
        max_output_size_per_class=most,
        max_total_size=most,
        iou_threshold=IOU_THRESHOLD,
        score_threshold=SCORE_THRESHOLD,
        clip_boxes=True,
    )
    return result.nmsed_boxes, result.nmsed_classes, result.nmsed_scores, result.valid_detections


def unpack(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> list[Detections]:
    """One entry for each picture of a batch of `suppress`."""
    return [Detections(boxes[i, :n], classes[i, :n].astype(np.int32), scores[i, :n]) for i, n in enumerate(counts)]
