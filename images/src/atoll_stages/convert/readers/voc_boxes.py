"""The box of a VOC object: its bndbox or, without one, the box around its turned rectangle or polygon."""

import math
import re
from typing import TYPE_CHECKING

from atoll_stages.convert.readers.shapes import Edges, around, rotated
from atoll_stages.convert.readers.values import InvalidValue, number_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_COORDINATE = re.compile(r"([xy])(\d+)")


def object_edges(item: "Element") -> tuple[Edges, str]:
    """Returns the box of an object, and the name of its shape where the box is one around that shape.

    Raises:
        InvalidValue: it has no box, or a value is no number.
    """
    if item.find("bndbox") is not None:
        left, top, right, bottom = (_number(item, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
        angle = _rotation(item)
        edges = left, top, right, bottom
        return (rotated(edges, math.radians(angle)), "turned rectangle") if angle else (edges, "")
    if item.find("robndbox") is not None:
        return _turned(item), "turned rectangle"
    polygon = item.find("polygon")
    if polygon is None:
        raise InvalidValue("no bndbox")
    return _polygon(polygon), "polygon"


def _number(item: "Element", path: str) -> float:
    text = item.findtext(path)
    if text is None:
        raise InvalidValue(f"no {path}")
    return number_text(text)


def _turned(item: "Element") -> Edges:
    """Returns the box around a rectangle of roLabelImg: its centre, its sides, and an angle in radians."""
    x, y, width, height, angle = (_number(item, f"robndbox/{name}") for name in ("cx", "cy", "w", "h", "angle"))
    return rotated((x - width / 2, y - height / 2, x + width / 2, y + height / 2), angle)


def _rotation(item: "Element") -> float:
    """Returns the degrees by which CVAT's rectangles are turned about their centre; their bndbox is that before it."""
    for attribute in item.findall("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            try:
                return number_text(attribute.findtext("value")) % 360
            except InvalidValue:
                return 0
    return 0


def _polygon(polygon: "Element") -> Edges:
    """Returns the box around a polygon of LabelMe's <pt><x/><y/></pt>, or of Roboflow's <x1/><y1/><x2/><y2/>…"""
    points = [[_number(point, "x"), _number(point, "y")] for point in polygon.findall("pt")]
    numbered: dict[str, dict[str, float]] = {"x": {}, "y": {}}
    for element in polygon:
        if found := _COORDINATE.fullmatch(element.tag):
            numbered[found[1]][found[2]] = number_text(element.text)
    points += [[x, numbered["y"][at]] for at, x in numbered["x"].items() if at in numbered["y"]]
    if len(points) < 3:
        raise InvalidValue(f"a polygon has at least 3 points, this one {len(points)}")
    return around(points)
