"""The box of a COCO annotation: its bbox or, without one, the box around its polygons, mask or keypoints."""

import math
from typing import Any

from atoll_contract.archive.limits import shown
from atoll_stages.convert.readers.shapes import (
    Edges,
    NoArea,
    around_area,
    polygon_edges,
    rotated,
    run_length_edges,
)
from atoll_stages.convert.readers.values import InvalidValue, is_true, number


def annotation_edges(item: dict[str, Any]) -> tuple[Edges, str]:
    """Returns the box of an annotation, and the name of its shape where the box is one around that shape.

    Raises:
        InvalidValue, NoArea: it has no box.
    """
    try:
        edges = _bbox(item.get("bbox"))
    except InvalidValue:
        if not _shape(item):
            raise
        return _shape_edges(item)
    if _has_area(edges):
        angle = _angle(item)
        return (rotated(edges, math.radians(angle)), "turned rectangle") if angle else (edges, "")
    return _shape_edges(item) if _shape(item) else (edges, "")


def is_crowd(item: dict[str, Any]) -> bool:
    return is_true(item.get("iscrowd"))


def _bbox(bbox: Any) -> Edges:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise InvalidValue(
            f"bbox must be [x, y, width, height], not {shown(repr(bbox), 40)}, and there is no segmentation"
        )
    left, top, width, height = (number(value) for value in bbox)
    return left, top, left + width, top + height


def _has_area(edges: Edges) -> bool:
    return edges[0] < edges[2] and edges[1] < edges[3]


def _angle(item: dict[str, Any]) -> float:
    """Returns the degrees by which CVAT's rectangles are turned about their centre; their bbox is that before it."""
    attributes = item.get("attributes")
    if _shape(item) or not isinstance(attributes, dict):
        return 0
    try:
        return number(attributes.get("rotation")) % 360
    except InvalidValue:
        return 0


def _shape(item: dict[str, Any]) -> str:
    """Returns which key has the annotation's shape; "" where none has."""
    return next((key for key in ("segmentation", "keypoints") if item.get(key)), "")


def _shape_edges(item: dict[str, Any]) -> tuple[Edges, str]:
    if _shape(item) == "keypoints":
        return _keypoint_edges(item["keypoints"]), "keypoints"
    segmentation = item["segmentation"]
    if isinstance(segmentation, dict):
        return run_length_edges(segmentation), "mask"
    return polygon_edges(segmentation), "polygon"


def _keypoint_edges(keypoints: Any) -> Edges:
    """Returns the box around keypoints [x1, y1, v1, …]; one with v = 0 is not labelled."""
    if not isinstance(keypoints, list) or len(keypoints) % 3:
        raise InvalidValue(f"keypoints must be [x, y, v, …], not {shown(repr(keypoints), 40)}")
    points = [keypoints[at : at + 2] for at in range(0, len(keypoints), 3) if number(keypoints[at + 2]) > 0]
    if len(points) < 2:
        raise NoArea("fewer than 2 keypoints have no area")
    return around_area(points, "skeleton")
