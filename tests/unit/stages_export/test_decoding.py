"""Detections of a chip's simulator are decoded without TensorFlow, and as those of the float model are."""

import numpy as np
import pytest
import tensorflow as tf

from atoll_contract.stage import Architecture
from atoll_stages.compile.decoding import decode_detections
from atoll_stages.export.target_inputs import DetectorHead
from atoll_stages.train.anchors import BOX_SCALES, MAX_LOG_SIZE, generate_anchors
from atoll_stages.train.detections import IOU_THRESHOLD, SCORE_THRESHOLD, non_max_suppression

KEPT = 20
CLASSES = 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.SSD_300])
def test_detections_equal_those_of_the_float_model(architecture: Architecture, seed: int) -> None:
    anchors = generate_anchors(architecture).boxes
    random = np.random.default_rng(seed)
    logits = (3.0 * random.standard_normal((len(anchors), CLASSES)) - 4.0).astype(np.float32)
    codes = (4.0 * random.standard_normal((len(anchors), 4))).astype(np.float32)
    # Box sizes far beyond the limit.
    codes[0, 2:] = 1000.0
    head = DetectorHead(
        side=architecture.side,
        classes=tuple("abc"),
        anchors=tuple(tuple(anchor) for anchor in anchors.tolist()),
        box_scales=BOX_SCALES,
        max_log_size=MAX_LOG_SIZE,
        max_detections=KEPT,
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=IOU_THRESHOLD,
    )
    found = decode_detections(logits, codes, head)
    boxes, classes, scores, count = non_max_suppression(
        logits[None], tf.constant(codes[None]), tf.constant(anchors), max_detections=KEPT
    )
    assert len(found) == int(count[0]) == KEPT
    np.testing.assert_array_equal(found.classes, classes[0].numpy().astype(int))
    np.testing.assert_allclose(found.scores, scores[0], atol=1e-6)
    np.testing.assert_allclose(found.boxes, boxes[0], atol=1e-5)


def test_scores_below_the_threshold_are_no_detections() -> None:
    head = DetectorHead(32, ("a",), ((0.5, 0.5, 0.1, 0.1),), BOX_SCALES, MAX_LOG_SIZE, KEPT, SCORE_THRESHOLD, 0.5)
    found = decode_detections(np.full((1, 1), -9.0), np.zeros((1, 4)), head)
    assert (len(found), found.boxes.shape) == (0, (0, 4))
