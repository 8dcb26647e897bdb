"""Boxes are clipped to the image or refused, and turned together with it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_stages.convert.boxes import Box, ClippedBox, clip_box, orient_box
from atoll_stages.convert.problems import Kind
from atoll_stages.convert.readers.base import LabelledBox

ANY = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-1000, 1000).map(float)
SIDE = st.integers(2, 4000).map(float)
SHARE = st.floats(0, 1)


def raw(xmin: float, ymin: float, xmax: float, ymax: float) -> LabelledBox:
    return LabelledBox("note", xmin, ymin, xmax, ymax, number=0)


@given(ANY, ANY, ANY, ANY, SIDE, SIDE)
def test_a_clipped_box_lies_in_the_picture_and_has_an_area(
    xmin: float, ymin: float, xmax: float, ymax: float, width: float, height: float
) -> None:
    found = clip_box(raw(xmin, ymin, xmax, ymax), width=width, height=height)
    if isinstance(found, Kind):
        return
    box = found.box
    assert 0 <= box.xmin < box.xmax <= 1
    assert 0 <= box.ymin < box.ymax <= 1


@given(ANY, ANY, ANY, ANY, SIDE, SIDE)
def test_an_overlap_is_never_refused_and_nothing_else_is_taken(
    xmin: float, ymin: float, xmax: float, ymax: float, width: float, height: float
) -> None:
    edges = (xmin, ymin, xmax, ymax)
    found = clip_box(raw(*edges), width=width, height=height)
    if not all(map(math.isfinite, edges)):
        assert found is Kind.BOX_MALFORMED
    elif xmin > xmax or ymin > ymax:
        assert found is Kind.BOX_INVERTED
    elif min(xmax, width) - max(xmin, 0) >= 2 and min(ymax, height) - max(ymin, 0) >= 2:
        assert isinstance(found, ClippedBox)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((0, 0, 640, 480), ClippedBox(Box(0, 0, 1, 1), moved=False)),
        ((-12, 4, 900, 610), ClippedBox(Box(0, 4 / 480, 1, 1), moved=True)),
        ((0, 0, 640.01, 480), ClippedBox(Box(0, 0, 1, 1), moved=False)),
        ((0, 0, 640.1, 480), ClippedBox(Box(0, 0, 1, 1), moved=True)),
        ((10, 10, 10, 20), Kind.BOX_EMPTY),
        ((20, 10, 10, 20), Kind.BOX_INVERTED),
        ((640, 10, 700, 20), Kind.BOX_OUTSIDE),
        ((0.1, 0.1, 0.9, 0.9), Kind.BOX_NORMALISED),
        ((math.nan, 0, 1, 1), Kind.BOX_MALFORMED),
        ((-math.inf, 0, 1, 1), Kind.BOX_MALFORMED),
    ],
)
def test_examples(edges: tuple[float, float, float, float], expected: ClippedBox | Kind) -> None:
    assert clip_box(raw(*edges), width=640, height=480) == expected


def test_fractions_are_fine_where_fractions_are_meant() -> None:
    assert clip_box(raw(0.1, 0.1, 0.9, 0.9), width=1, height=1) == ClippedBox(Box(0.1, 0.1, 0.9, 0.9), moved=False)


@given(SHARE, SHARE, SHARE, SHARE, st.integers(1, 8))
def test_turning_keeps_the_area(x: float, y: float, width: float, height: float, orientation: int) -> None:
    box = Box(x * 0.5, y * 0.5, x * 0.5 + width * 0.5, y * 0.5 + height * 0.5)
    found = orient_box(box, orientation)
    area = (box.xmax - box.xmin) * (box.ymax - box.ymin)
    assert math.isclose((found.xmax - found.xmin) * (found.ymax - found.ymin), area, abs_tol=1e-9)
    assert 0 <= found.xmin <= found.xmax <= 1
    assert 0 <= found.ymin <= found.ymax <= 1
