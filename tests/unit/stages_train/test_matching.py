"""Which anchors are matched to which objects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import AnchorMatches, generate_anchors, match_anchors, pairwise_iou

CENTER = st.integers(10, 90).map(lambda n: n / 100)
SIDE = st.integers(2, 60).map(lambda n: n / 100)
OBJECTS = st.lists(st.tuples(CENTER, CENTER, SIDE, SIDE), min_size=1, max_size=6)


def corners(objects: list[tuple[float, float, float, float]]) -> np.ndarray:
    rows = [(max(y - h / 2, 0), max(x - w / 2, 0), min(y + h / 2, 1), min(x + w / 2, 1)) for y, x, h, w in objects]
    return np.array(rows, np.float32)


def match(architecture: Architecture, boxes: np.ndarray, labels: np.ndarray) -> AnchorMatches:
    anchors = generate_anchors(architecture)
    levels = np.array(anchors.levels, np.int32)
    return match_anchors(architecture, anchors=anchors.boxes, levels=levels, boxes=boxes[None], labels=labels[None])


@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.SSD_300])
@settings(max_examples=8, deadline=None)
@given(OBJECTS)
def test_an_object_by_itself_has_an_anchor(
    architecture: Architecture, objects: list[tuple[float, float, float, float]]
) -> None:
    for box in corners(objects):
        matches = match(architecture, box[None], np.array([0], np.int32))
        assert matches.positive.numpy().any()


@settings(max_examples=8, deadline=None)
@given(OBJECTS)
def test_padding_changes_nothing(objects: list[tuple[float, float, float, float]]) -> None:
    boxes = corners(objects)
    labels = np.zeros(len(boxes), np.int32)
    plain = match(Architecture.FPNLITE_192, boxes, labels)
    padded = match(
        Architecture.FPNLITE_192, np.pad(boxes, ((0, 3), (0, 0))), np.pad(labels, (0, 3), constant_values=-1)
    )
    np.testing.assert_array_equal(plain.positive, padded.positive)
    np.testing.assert_array_equal(
        plain.objects.numpy()[plain.positive.numpy()], padded.objects.numpy()[padded.positive.numpy()]
    )


def test_only_padding_matches_nothing() -> None:
    for architecture in (Architecture.FPNLITE_192, Architecture.SSD_300):
        matches = match(architecture, np.zeros((2, 4), np.float32), np.full(2, -1, np.int32))
        assert not matches.positive.numpy().any()
        assert not matches.ignored.numpy().any()


def test_anchors_in_an_ignored_object_are_not_background() -> None:
    boxes = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    matches = match(Architecture.FPNLITE_192, boxes, np.array([-2], np.int32))
    centers = generate_anchors(Architecture.FPNLITE_192).boxes[:, :2]
    inside = ((centers >= 0.25) & (centers <= 0.75)).all(axis=-1)
    assert not matches.positive.numpy().any()
    np.testing.assert_array_equal(matches.ignored.numpy()[0], inside)


def test_an_anchor_is_matched_to_the_object_it_overlaps_most() -> None:
    boxes = np.array([[0.1, 0.1, 0.4, 0.4], [0.55, 0.55, 0.9, 0.9]], np.float32)
    matches = match(Architecture.FPNLITE_192, boxes, np.array([0, 1], np.int32))
    anchors = generate_anchors(Architecture.FPNLITE_192).boxes
    for index in np.flatnonzero(matches.positive.numpy()[0]):
        box = boxes[matches.objects.numpy()[0, index]]
        assert (anchors[index, :2] >= box[:2]).all()
        assert (anchors[index, :2] <= box[2:]).all()


def test_overlap_of_known_boxes() -> None:
    a = np.array([[0.0, 0.0, 0.5, 0.5]], np.float32)
    b = np.array([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.25, 0.5, 0.75], [0.6, 0.6, 0.9, 0.9]]], np.float32)
    np.testing.assert_allclose(pairwise_iou(a, b)[0, 0], [1.0, 1 / 3, 0.0], atol=1e-6)
