"""Detections from the outputs of the float network or of its compiled form, without TensorFlow: as `FloatDetector`
computes them, and as the post-processing op of the int8 file does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll_contract.box_distributions import CODES, STRIDES, find_level_boxes
from atoll_stages.export.target_inputs import DetectorHead
from atoll_stages.train.detections import Detections, iou_matrix


def decode_outputs(outputs: Sequence[np.ndarray], head: DetectorHead) -> Detections:
    """Returns what one image's outputs stand for, in the order of the head's names and without the batch axis."""
    if not head.bins:
        logits, codes = outputs
        return decode_detections(logits, codes, head)
    found = find_level_boxes(outputs, max_detections=head.max_detections)
    return Detections(found.boxes, found.classes.astype(np.int32), found.scores.astype(np.float32))


def output_shapes(head: DetectorHead) -> list[tuple[int, ...]]:
    """Returns the shape of each output of one image, in the order of the head's names."""
    if not head.bins:
        return [(len(head.anchors), len(head.classes)), (len(head.anchors), 4)]
    sides = [head.side // stride for stride in STRIDES]
    return [(channels, side, side) for side in sides for channels in (CODES, len(head.classes))]


def decode_detections(logits: np.ndarray, codes: np.ndarray, head: DetectorHead) -> Detections:
    """Returns what one image's class logits (anchors, classes) and box codes (anchors, 4) stand for."""
    scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    boxes = decode_boxes(codes.astype(np.float64), head)
    kept = [
        (float(scores[anchor, label]), label, anchor)
        for label in range(scores.shape[1])
        for anchor in _suppressed(boxes, scores[:, label], head)
    ]
    kept = sorted(kept, key=lambda item: -item[0])[: head.max_detections]
    chosen = [anchor for _, _, anchor in kept]
    return Detections(
        boxes=np.clip(boxes[chosen], 0.0, 1.0).astype(np.float32).reshape(-1, 4),
        classes=np.array([label for _, label, _ in kept], np.int32),
        scores=np.array([score for score, _, _ in kept], np.float32),
    )


def decode_boxes(codes: np.ndarray, head: DetectorHead) -> np.ndarray:
    """Returns the corner boxes (anchors, 4) of codes (ty, tx, th, tw) against the head's anchors."""
    anchors, scales = np.array(head.anchors), np.array(head.box_scales)
    center = codes[:, :2] / scales[:2] * anchors[:, 2:] + anchors[:, :2]
    size = np.exp(np.clip(codes[:, 2:], -head.max_log_size, head.max_log_size) / scales[2:]) * anchors[:, 2:]
    return np.concatenate([center - size / 2, center + size / 2], axis=1)


def _suppressed(boxes: np.ndarray, scores: np.ndarray, head: DetectorHead) -> list[int]:
    """The anchors of one class that are left after non-maximum suppression, best score first."""
    candidates = np.flatnonzero(scores > head.score_threshold)
    left = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < head.max_detections:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[iou_matrix(boxes[best : best + 1], boxes[left])[0] <= head.iou_threshold]
    return kept
