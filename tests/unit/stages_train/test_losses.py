"""The loss functions against values worked out by hand."""

import numpy as np
import tensorflow as tf

from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import generate_anchors, match_atss
from atoll_stages.train.losses import detection_loss, giou, quality_focal_loss
from support.detection_data import encode_boxes


def test_quality_focal_loss_of_known_values() -> None:
    logits, targets = np.array([-2.0, 0.5, 3.0, 0.0]), np.array([0.0, 0.7, 1.0, 0.5])
    p = 1 / (1 + np.exp(-logits))
    expected = -(np.abs(targets - p) ** 2) * (targets * np.log(p) + (1 - targets) * np.log(1 - p))
    found = quality_focal_loss(tf.constant(logits, tf.float32), tf.constant(targets, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_easy_anchors_are_cheap() -> None:
    easy, hard = quality_focal_loss(np.array([-6.0, 2.0], np.float32), np.array([0.0, 0.0], np.float32)).numpy()
    assert easy < hard / 1e5


def test_giou_of_known_boxes() -> None:
    a = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    b = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 2, 1, 3]], np.float32)
    np.testing.assert_allclose(giou(a, b), [1.0, 0.5, -1 / 3], atol=1e-6)


def test_right_outputs_cost_nearly_nothing_and_wrong_ones_more() -> None:
    anchors = generate_anchors(Architecture.FPNLITE_192)
    boxes = np.array([[[0.2, 0.2, 0.6, 0.6]]], np.float32)
    labels = np.array([[1]], np.int32)
    matches = match_atss(anchors=anchors.boxes, levels=np.array(anchors.levels, np.int32), boxes=boxes, labels=labels)
    positive = matches.positive.numpy()[0]
    right = np.full((1, anchors.count, 2), -12.0, np.float32)
    right[0, positive, 1] = 12.0
    codes = encode_boxes(np.broadcast_to(boxes[0], (anchors.count, 4)), anchors.boxes)[None]

    def loss(logits: np.ndarray) -> float:
        losses = detection_loss(
            logits=tf.constant(logits), codes=codes, anchors=anchors.boxes, matches=matches, boxes=boxes, labels=labels
        )
        return float(losses.total)

    assert loss(right) < 1e-3
    assert loss(-right) > 1.0


def test_a_score_learns_how_well_its_box_fits() -> None:
    anchors = generate_anchors(Architecture.FPNLITE_192)
    boxes, labels = np.array([[[0.2, 0.2, 0.6, 0.6]]], np.float32), np.array([[0]], np.int32)
    matches = match_atss(anchors=anchors.boxes, levels=np.array(anchors.levels, np.int32), boxes=boxes, labels=labels)
    # Half of the object, so that every anchor's box has an IoU of .5.
    codes = encode_boxes(np.broadcast_to([0.2, 0.2, 0.4, 0.6], (anchors.count, 4)).astype(np.float32), anchors.boxes)

    def loss(score: float) -> float:
        logits = np.where(matches.positive.numpy()[0], np.log(score / (1 - score)), -12.0).astype(np.float32)
        losses = detection_loss(
            logits=tf.constant(logits[None, :, None]),
            codes=codes[None],
            anchors=anchors.boxes,
            matches=matches,
            boxes=boxes,
            labels=labels,
        )
        return float(losses.classification)

    assert loss(0.5) < 1e-6
    assert min(loss(0.3), loss(0.7), loss(0.99)) > 0.01


def test_images_without_objects_give_a_finite_loss() -> None:
    anchors = generate_anchors(Architecture.FPNLITE_192)
    boxes, labels = np.zeros((1, 1, 4), np.float32), np.array([[-1]], np.int32)
    matches = match_atss(anchors=anchors.boxes, levels=np.array(anchors.levels, np.int32), boxes=boxes, labels=labels)
    outputs = tf.zeros((1, anchors.count, 2)), tf.zeros((1, anchors.count, 4))
    losses = detection_loss(
        logits=outputs[0], codes=outputs[1], anchors=anchors.boxes, matches=matches, boxes=boxes, labels=labels
    )
    assert np.isfinite(losses.total)
    assert losses.box == 0.0
