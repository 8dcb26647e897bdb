"""Detections of a chip's simulator are decoded without TensorFlow, and as those of the float model are."""

import numpy as np
import pytest
import tensorflow as tf

from atoll_contract.box_distributions import CODES, IOU_THRESHOLD, SCORE_THRESHOLD, cell_count
from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import replace
from atoll_contract.train_spec import Architecture
from atoll_stages.compile.decoding import decode_outputs, output_shapes
from atoll_stages.export.head_files import files_of
from atoll_stages.train.anchors import BOX_SCALES, MAX_LOG_SIZE, generate_anchors
from atoll_stages.train.detections import Detections, non_max_suppression
from atoll_stages.train.heads import head_of
from support.field_readers import by_stride

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
    found = decode_outputs((logits, codes), head)
    assert len(found) == KEPT
    assert_equal(found, float_detections(architecture, logits, codes))


def float_detections(architecture: Architecture, logits: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the float model finds: boxes, classes and scores."""
    head, anchors = head_of(architecture), generate_anchors(architecture).boxes
    boxes, classes, scores, count = non_max_suppression(
        head.scores(tf.constant(logits[None])),
        head.decode(tf.constant(codes[None]), tf.constant(anchors)[None]),
        max_detections=KEPT,
    )
    return tuple(tensor[0, : int(count[0])].numpy() for tensor in (boxes, classes, scores))


def assert_equal(found: Detections, expected: tuple[np.ndarray, ...]) -> None:
    boxes, classes, scores = expected
    np.testing.assert_array_equal(found.classes, classes.astype(int))
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_distributions_of_a_chip_are_read_as_those_of_the_float_model(seed: int) -> None:
    architecture = Architecture.DFL_192
    random = np.random.default_rng(seed)
    cells = cell_count(architecture.side)
    logits = (3.0 * random.standard_normal((cells, CLASSES)) - 4.0).astype(np.float32)
    codes = (2.0 * random.standard_normal((cells, CODES))).astype(np.float32)
    head = replace(files_of(architecture).document(tuple("abc")), max_detections=KEPT)
    outputs = by_stride(codes, logits, architecture.side)
    assert [output.shape for output in outputs] == output_shapes(head)
    found = decode_outputs(outputs, head)
    assert len(found) == KEPT
    assert_equal(found, float_detections(architecture, logits, codes))


def test_scores_below_the_threshold_are_no_detections() -> None:
    head = DetectorHead(32, ("a",), ((0.5, 0.5, 0.1, 0.1),), BOX_SCALES, MAX_LOG_SIZE, KEPT, SCORE_THRESHOLD, 0.5)
    found = decode_outputs((np.full((1, 1), -9.0), np.zeros((1, 4))), head)
    assert (len(found), found.boxes.shape) == (0, (0, 4))
