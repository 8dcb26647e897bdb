"""The box around each Supervisely geometry."""

import base64
import io
import math
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atoll_stages.convert.readers.shapes import NoArea, UnknownGeometry
from atoll_stages.convert.readers.supervisely_shapes import box_edges
from atoll_stages.convert.readers.values import InvalidValue
from support.archives import png_header

PIXELS = 10_000
_TAG = b"IHDR" + bytes(8)
# A PNG whose first part ends before it has told what it is.
SHORT_HEADER = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 8) + _TAG + struct.pack(">I", zlib.crc32(_TAG))


def mask(*, mode: str = "1", size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG whose pixels (2, 1) to (4, 3) are set."""
    image = Image.new("RGBA" if mode == "RGBA" else "L", size, 0)
    image.paste((255, 0, 0, 255) if mode == "RGBA" else 255, (2, 1, 5, 4))
    buffer = io.BytesIO()
    (image if mode == "RGBA" else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def bitmap(data: bytes, *, kind: str = "bitmap") -> dict[str, Any]:
    return {"geometryType": kind, "bitmap": {"data": base64.b64encode(data).decode(), "origin": [100, 50]}}


def points(kind: str, exterior: Any) -> dict[str, Any]:
    return {"geometryType": kind, "points": {"exterior": exterior, "interior": []}}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (points("rectangle", [[1, 2], [30, 40]]), (1, 2, 30, 40)),
        (points("rectangle", [[30, 2], [1, 40]]), (1, 2, 30, 40)),
        (points("rectangle", [[1, 2], [30, 2], [30, 40], [1, 40]]), (1, 2, 30, 40)),
        (points("polygon", [[5, 5], [9.5, 1], [2, 8]]), (2, 1, 9.5, 8)),
        (
            {"geometryType": "multipolygon", "parts": [{"exterior": [[1, 2], [3, 2], [3, 4]]}, {"exterior": [[9, 9]]}]},
            (1, 2, 9, 9),
        ),
        ({"geometryType": "cuboid", "points": [[1, 2], [3, 2], [3, 4], [8, 7]], "faces": [[0, 1, 2, 3]]}, (1, 2, 8, 7)),
        ({"geometryType": "cuboid_2d", "vertices": {"a": {"loc": [5, 1]}, "b": {"loc": [2, 9]}}}, (2, 1, 5, 9)),
        (
            {"geometryType": "graph", "nodes": {"0": {"loc": [5, 5]}, "1": {"loc": [9, 2], "disabled": True}}},
            (5, 2, 9, 5),
        ),
        ({"geometryType": "oriented_bbox", "points": [[10, 10], [30, 20]], "angle": 0}, (10, 10, 30, 20)),
        ({"geometryType": "oriented_bbox", "points": [[30, 20], [10, 10]], "angle": None}, (10, 10, 30, 20)),
        ({"points": {"exterior": [[1, 2], [3, 4]], "interior": []}}, (1, 2, 3, 4)),
        (points("rectangle", [["1", "2,5"], [30.0, "4e1"]]), (1, 2.5, 30, 40)),
    ],
)
def test_box_around_points(item: dict[str, Any], expected: tuple[float, ...]) -> None:
    assert box_edges(item, max_pixels=PIXELS)[0] == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
@pytest.mark.parametrize("kind", ["bitmap", "alpha_mask"])
def test_box_around_a_mask_is_origin_and_set_pixels(mode: str, kind: str) -> None:
    assert box_edges(bitmap(zlib.compress(mask(mode=mode)), kind=kind), max_pixels=PIXELS)[0] == (102, 51, 105, 54)


def test_mask_that_was_not_deflated_again() -> None:
    assert box_edges(bitmap(mask()), max_pixels=PIXELS)[0] == (102, 51, 105, 54)


@pytest.mark.parametrize("kind", ["line", "polyline", "point"])
def test_geometry_without_area(kind: str) -> None:
    with pytest.raises(NoArea, match=f"a {kind} has no area"):
        box_edges(points(kind, [[1, 2]]), max_pixels=PIXELS)


@pytest.mark.parametrize("nodes", [{}, {"a": {"loc": [1, 2]}}, {"a": {"loc": [1, 2]}, "b": {"loc": [1, 9]}}])
@pytest.mark.parametrize("kind", ["graph", "keypoints"])
def test_keypoints_that_span_no_area(kind: str, nodes: dict[str, Any]) -> None:
    with pytest.raises(NoArea, match="has no area"):
        box_edges({"geometryType": kind, "nodes": nodes}, max_pixels=PIXELS)


@pytest.mark.parametrize("kind", ["pointcloud", "new_shape", ["x"]])
def test_geometry_that_is_not_known(kind: Any) -> None:
    with pytest.raises(UnknownGeometry):
        box_edges({"geometryType": kind}, max_pixels=PIXELS)


@pytest.mark.parametrize(
    "item",
    [
        points("rectangle", [[1, 2]]),
        points("rectangle", [[1, 2], [3]]),
        points("rectangle", [[1, 2], [3, "four"]]),
        {"geometryType": "oriented_bbox", "points": [[1, 2], [3, 4]], "angle": "steep"},
        points("rectangle", None),
        points("polygon", [[1, 2], [3, 4]]),
        {"geometryType": "multipolygon", "parts": []},
        {"geometryType": "bitmap"},
        {"geometryType": "bitmap", "bitmap": {"data": "!!!", "origin": [0, 0]}},
        {"geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [0]}},
        bitmap(b"nonsense"),
        bitmap(zlib.compress(mask(size=(8, 6)))[:20]),
        bitmap(zlib.compress(bytes(10 * PIXELS))),
        bitmap(png_header(5000, 5000)),
        bitmap(png_header(10_000, 10_000)),
        bitmap(png_header(60_000, 60_000)),
        bitmap(SHORT_HEADER),
        bitmap(zlib.compress(png_header(8, 6))),
    ],
)
def test_shape_that_is_none(item: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        box_edges(item, max_pixels=PIXELS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {
            "geometryType": st.sampled_from(
                ["rectangle", "oriented_bbox", "polygon", "bitmap", "multipolygon", "cuboid", "graph", "line", None]
            )
        },
        optional={"points": JSON, "bitmap": JSON, "parts": JSON, "nodes": JSON, "vertices": JSON, "angle": JSON},
    )
)
def test_any_values_give_edges_or_a_named_fault(item: dict[str, Any]) -> None:
    try:
        found = box_edges(item, max_pixels=PIXELS)
    except (NoArea, UnknownGeometry, InvalidValue):
        return
    assert len(found[0]) == 4


@pytest.mark.parametrize("turns", [-2, -0.5, 0, 0.5, 1, 1.5])
def test_an_oriented_box_turned_by_half_turns_is_itself(turns: float) -> None:
    item = {"geometryType": "oriented_bbox", "points": [[10, 10], [30, 20]], "angle": turns * 2 * math.pi}
    assert box_edges(item, max_pixels=PIXELS)[0] == pytest.approx((10, 10, 30, 20))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_box_around_an_oriented_box(sign: int) -> None:
    item = {"geometryType": "oriented_bbox", "points": [[30, 24], [60, 40]], "angle": sign * math.pi / 6}
    expected = (28.00961894323342, 17.571796769724493, 61.99038105676658, 46.42820323027551)
    assert box_edges(item, max_pixels=PIXELS)[0] == pytest.approx(expected)
