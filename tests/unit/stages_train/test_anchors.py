"""Anchors and the box coder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import decode_boxes, generate_anchors, to_corners
from support.detection_data import encode_boxes

EDGE = st.integers(0, 1000).map(lambda n: n / 1000)
BOXES = st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        (Architecture.FPNLITE_320, 40**2 + 20**2 + 10**2 + 5**2),
        (Architecture.FPNLITE_192, 24**2 + 12**2 + 6**2 + 3**2),
        (Architecture.FPNLITE_416, 52**2 + 26**2 + 13**2 + 7**2),
        (Architecture.FPNLITE_512, 64**2 + 32**2 + 16**2 + 8**2),
        (Architecture.FPNLITE_640, 80**2 + 40**2 + 20**2 + 10**2),
        (Architecture.SSD_300, 1917),
        (Architecture.DFL_320, 40**2 + 20**2 + 10**2),
    ],
)
def test_number_of_anchors(architecture: Architecture, count: int) -> None:
    anchors = generate_anchors(architecture)
    assert anchors.count == count == sum(anchors.levels)


@pytest.mark.parametrize("architecture", list(Architecture))
def test_centres_lie_in_the_image_and_sizes_are_positive(architecture: Architecture) -> None:
    boxes = generate_anchors(architecture).boxes
    assert boxes.dtype == np.float32
    assert (boxes[:, :2] > 0).all()
    assert (boxes[:, :2] < 1).all()
    assert (boxes[:, 2:] > 0).all()


def test_the_first_level_runs_row_by_row() -> None:
    boxes = generate_anchors(Architecture.FPNLITE_320).boxes
    np.testing.assert_allclose(boxes[0], [4 / 320, 4 / 320, 24 / 320, 24 / 320])
    np.testing.assert_allclose(boxes[1][:2], [4 / 320, 12 / 320])
    np.testing.assert_allclose(boxes[40][:2], [12 / 320, 4 / 320])


@settings(max_examples=15, deadline=None)
@given(BOXES)
def test_decode_inverts_encode(raw: list[tuple[float, float, float, float]]) -> None:
    edges = np.array(raw, np.float32)
    low = np.minimum(edges[:, :2], edges[:, 2:])
    boxes = np.concatenate([low, np.maximum(edges[:, :2], edges[:, 2:]) + 0.01], axis=-1)
    anchors = generate_anchors(Architecture.FPNLITE_192).boxes[: len(boxes)]
    codes = encode_boxes(boxes, anchors)
    np.testing.assert_allclose(decode_boxes(codes, anchors), boxes, atol=1e-4)


def test_codes_of_zero_are_the_anchors() -> None:
    anchors = generate_anchors(Architecture.SSD_300).boxes
    np.testing.assert_allclose(decode_boxes(np.zeros_like(anchors), anchors), to_corners(anchors), atol=1e-6)


def test_a_very_large_code_is_decoded_to_a_finite_box() -> None:
    anchors = generate_anchors(Architecture.FPNLITE_192).boxes[:1]
    assert np.isfinite(decode_boxes(np.full((1, 4), 1e6, np.float32), anchors)).all()
