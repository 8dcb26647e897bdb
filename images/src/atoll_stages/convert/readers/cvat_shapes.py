"""The box around each shape of "CVAT for images 1.1": a picture's elements with a label."""

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from atoll_contract.archive.limits import shown
from atoll_stages.convert.readers.shapes import Edges, NoArea, UnknownGeometry, around, around_area, rotated
from atoll_stages.convert.readers.values import InvalidValue, number_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CORNER = re.compile(r"x([tb][lr][12])")


def shape_edges(item: "Element") -> tuple[Edges, str]:
    """Returns the box of a shape, and the shape's name where the box is one around it.

    Raises:
        NoArea, UnknownGeometry: this shape has no box.
        InvalidValue: its values are not what it requires.
    """
    if item.tag in ("polyline", "points"):
        raise NoArea(f"{shown(item.tag)} have no area")
    if (edges := _SHAPES.get(item.tag)) is None:
        raise UnknownGeometry(f"shape {shown(item.tag, 40)}")
    is_plain = item.tag == "box" and not _rotation(item)
    return edges(item), "" if is_plain else item.tag if item.tag != "box" else "turned rectangle"


def _number(item: "Element", name: str) -> float:
    text = item.get(name)
    if text is None:
        raise InvalidValue(f"<{item.tag}> has no {name}")
    return number_text(text)


def _rotation(item: "Element") -> float:
    """Returns the degrees by which a rectangle or ellipse is turned about its centre."""
    return number_text(item.get("rotation", "0")) % 360


def _box(item: "Element") -> Edges:
    left, top, right, bottom = (_number(item, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = _rotation(item)
    edges = left, top, right, bottom
    return rotated(edges, math.radians(angle)) if angle else edges


def _points(item: "Element") -> list[list[str]]:
    """Returns the points of `x,y;x,y`."""
    return [point.split(",") for point in item.get("points", "").split(";") if point]


def _polygon(item: "Element") -> Edges:
    points = _points(item)
    if len(points) < 3:
        raise InvalidValue(f"a polygon has at least 3 points, this one {len(points)}")
    return around(points)


def _ellipse(item: "Element") -> Edges:
    x, y, wide, high = (_number(item, name) for name in ("cx", "cy", "rx", "ry"))
    angle = math.radians(_rotation(item))
    half_width = math.hypot(wide * math.cos(angle), high * math.sin(angle))
    half_height = math.hypot(wide * math.sin(angle), high * math.cos(angle))
    return x - half_width, y - half_height, x + half_width, y + half_height


def _cuboid(item: "Element") -> Edges:
    corners = [found[1] for name in item.keys() if (found := _CORNER.fullmatch(name))]  # noqa: SIM118
    return around([[_number(item, f"x{corner}"), _number(item, f"y{corner}")] for corner in corners])


def _mask(item: "Element") -> Edges:
    """Returns the rectangle to which CVAT cuts a mask."""
    left, top, width, height = (_number(item, name) for name in ("left", "top", "width", "height"))
    return left, top, left + width, top + height


def _skeleton(item: "Element") -> Edges:
    """Returns the box around the points of a skeleton that are in the picture."""
    points = [point for node in item.findall("points") if node.get("outside") != "1" for point in _points(node)]
    if len(points) < 2:
        raise NoArea("a skeleton of fewer than 2 points has no area")
    return around_area(points, "skeleton")


_SHAPES: dict[str, Callable[["Element"], Edges]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "cuboid": _cuboid,
    "mask": _mask,
    "skeleton": _skeleton,
}
