"""The box around each of Supervisely's geometries. An object names its own, so a class of "any shape" may mix them."""

import base64
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from atoll_contract.archive.limits import shown
from atoll_contract.images import opened
from atoll_stages.convert.readers.shapes import Edges, NoArea, UnknownGeometry, around, around_area, rotated
from atoll_stages.convert.readers.values import InvalidValue, kind_of, number

RECTANGLE = "rectangle"
_WITHOUT_AREA = frozenset({"line", "polyline", "point", "point_3d"})


def box_edges(item: dict[str, Any], *, max_pixels: int) -> tuple[Edges, str]:
    """Returns the box around an object, and its geometry; `max_pixels` is the limit for the mask of a bitmap.

    Raises:
        NoArea, UnknownGeometry: this geometry has no box.
        InvalidValue: the geometry's values are not what its type requires.
    """
    geometry = item.get("geometryType") or _inferred(item)
    if not isinstance(geometry, str) or (geometry not in _SHAPES and geometry not in _WITHOUT_AREA):
        raise UnknownGeometry(f"geometry {shown(str(geometry), 40)}")
    if geometry in _WITHOUT_AREA:
        raise NoArea(f"a {geometry} has no area")
    return _SHAPES[geometry](item, max_pixels), geometry


def _inferred(item: dict[str, Any]) -> str:
    """Returns the geometry of an object in exports before 2019, which do not name it."""
    if item.get("bitmap"):
        return "bitmap"
    if isinstance(item.get("nodes"), dict):
        return "graph"
    if "angle" in item:
        return "oriented_bbox"
    return RECTANGLE if len(_exterior(item.get("points"))) == 2 else "polygon"


def _rectangle(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) < 2:
        raise InvalidValue(f"a rectangle has 2 points or 4, this one {len(points)}")
    return around(points)


def _oriented(item: dict[str, Any], max_pixels: int) -> Edges:
    """Returns the box around a rectangle that is turned about its centre by an angle in radians."""
    angle = item.get("angle")
    return rotated(_rectangle(item, max_pixels), 0 if angle is None else number(angle))


def _polygon(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) < 3:
        raise InvalidValue(f"a polygon has at least 3 points, this one {len(points)}")
    return around(points)


def _multipolygon(item: dict[str, Any], _: int) -> Edges:
    parts = item.get("parts")
    if not isinstance(parts, list) or not parts:
        raise InvalidValue("a multipolygon without parts")
    return around([point for part in parts for point in _exterior(part)])


def _cuboid(item: dict[str, Any], _: int) -> Edges:
    if isinstance(item.get("vertices"), dict):
        return around(_locations(item["vertices"]))
    points = item.get("points")
    if not isinstance(points, list):
        raise InvalidValue("a cuboid without a list of points")
    return around(points)


def _graph(item: dict[str, Any], _: int) -> Edges:
    """Returns the box around the nodes of a graph, as Supervisely calls keypoints."""
    nodes = item.get("nodes")
    if not isinstance(nodes, dict) or len(nodes) < 2:
        raise NoArea("a graph of fewer than 2 nodes has no area")
    return around_area(_locations(nodes), "graph")


def _locations(nodes: dict[str, Any]) -> Iterable[Any]:
    """Returns the points of nodes {"loc": [x, y]}."""
    return [node.get("loc") if isinstance(node, dict) else node for node in nodes.values()]


def _bitmap(item: dict[str, Any], max_pixels: int) -> Edges:
    bitmap = item.get("bitmap")
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("data"), str):
        raise InvalidValue("a bitmap without data")
    origin = bitmap.get("origin")
    if not isinstance(origin, list) or len(origin) != 2:
        raise InvalidValue("a bitmap without origin [x, y]")
    left, top = number(origin[0]), number(origin[1])
    inner = _mask_edges(bitmap["data"], max_pixels)
    return left + inner[0], top + inner[1], left + inner[2], top + inner[3]


def _mask_edges(data: str, max_pixels: int) -> Edges:
    """Returns the tight box of a mask: base64 of a PNG, mostly deflated once more; its alpha or non-zero pixels."""
    try:
        png = _unpacked(base64.b64decode(data, validate=True), limit=max_pixels)
        with opened(png, ("PNG",)) as mask:
            if mask.width * mask.height > max_pixels:
                raise InvalidValue(f"a mask of {mask.width}×{mask.height}, limit {max_pixels} pixels")
            has_alpha = "A" in mask.getbands() or "transparency" in mask.info
            channel = mask.convert("RGBA").getchannel("A") if has_alpha else mask.convert("L")
            found = channel.getbbox()
    except InvalidValue:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error, EOFError) as error:
        raise InvalidValue(f"the bitmap cannot be read: {error}") from None
    if found is None:
        raise InvalidValue("the bitmap is empty")
    return found


def _unpacked(data: bytes, *, limit: int) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    inflater = zlib.decompressobj()
    png = inflater.decompress(data, limit)
    if inflater.unconsumed_tail:
        raise InvalidValue(f"the bitmap expands past {limit} bytes")
    return png


def _exterior(points: Any) -> list[Any]:
    """Returns the outline of an object; an oriented box has its points in a plain list."""
    if isinstance(points, list):
        return points
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if not isinstance(exterior, list):
        raise InvalidValue(f"points.exterior must be a list, not {kind_of(exterior)}")
    return exterior


_SHAPES: dict[str, Callable[[dict[str, Any], int], Edges]] = {
    RECTANGLE: _rectangle,
    "oriented_bbox": _oriented,
    "polygon": _polygon,
    "multipolygon": _multipolygon,
    "bitmap": _bitmap,
    "alpha_mask": _bitmap,
    "cuboid": _cuboid,
    "cuboid_2d": _cuboid,
    "graph": _graph,
    "keypoints": _graph,
}
