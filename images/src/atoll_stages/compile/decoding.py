"""Detections from the outputs of the float network or of its compiled form, without TensorFlow: as `FloatDetector`
computes them, and as the post-processing op of the int8 file does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll_contract.box_distributions import CODES, STRIDES, find_level_boxes
from atoll_contract.detector_head import DetectorHead, find_anchor_boxes
from atoll_stages.train.detections import Detections


def decode_outputs(outputs: Sequence[np.ndarray], head: DetectorHead) -> Detections:
    """Returns what one image's outputs stand for, in the order of the head's names and without the batch axis."""
    if head.bins:
        found = find_level_boxes(outputs, max_detections=head.max_detections)
    else:
        logits, codes = outputs
        found = find_anchor_boxes(logits, codes, head)
    return Detections(found.boxes, found.classes.astype(np.int32), found.scores.astype(np.float32))


def output_shapes(head: DetectorHead) -> list[tuple[int, ...]]:
    """Returns the shape of each output of one image, in the order of the head's names."""
    if not head.bins:
        return [(len(head.anchors), len(head.classes)), (len(head.anchors), 4)]
    sides = [head.side // stride for stride in STRIDES]
    return [(channels, side, side) for side in sides for channels in (CODES, len(head.classes))]
