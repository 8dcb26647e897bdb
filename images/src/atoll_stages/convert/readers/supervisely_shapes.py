"""The box around each geometry of a Supervisely object."""

import base64
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from atoll_contract.archive_names import shown
from atoll_contract.picture_header import opened
from atoll_stages.convert.readers.values import ValueFault, kind_of, number

Edges = tuple[float, float, float, float]

_WITHOUT_AREA = frozenset({"line", "polyline", "point", "graph", "point_3d", "keypoints"})


class NoArea(ValueError):
    """The geometry marks a place or a line; no box follows from it."""


class UnknownGeometry(ValueError):
    """A geometry that Atoll does not know."""


def edges(item: dict[str, Any], *, pixels: int) -> Edges:
    """(left, top, right, bottom) around an object; `pixels` bounds the mask of a bitmap.

    Raises:
        NoArea, UnknownGeometry: no box follows from this geometry.
        ValueFault: the geometry's values are not what its type asks for.
    """
    geometry = item.get("geometryType") or _inferred(item)
    if not isinstance(geometry, str) or geometry not in (_WITHOUT_AREA | _SHAPES.keys()):
        raise UnknownGeometry(f"geometry {shown(str(geometry), 40)}")
    if geometry in _WITHOUT_AREA:
        raise NoArea(f"a {geometry} has no area")
    return _SHAPES[geometry](item, pixels)


def _inferred(item: dict[str, Any]) -> str:
    """The geometry of exports that do not name it (before 2019)."""
    if item.get("bitmap"):
        return "bitmap"
    return "rectangle" if len(_exterior(item.get("points"))) == 2 else "polygon"


def _rectangle(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) != 2:
        raise ValueFault(f"a rectangle has 2 points, this one {len(points)}")
    return _around(points)


def _polygon(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) < 3:
        raise ValueFault(f"a polygon has at least 3 points, this one {len(points)}")
    return _around(points)


def _multipolygon(item: dict[str, Any], _: int) -> Edges:
    parts = item.get("parts")
    if not isinstance(parts, list) or not parts:
        raise ValueFault("a multipolygon without parts")
    return _around([point for part in parts for point in _exterior(part)])


def _cuboid(item: dict[str, Any], _: int) -> Edges:
    points = item.get("points")
    if not isinstance(points, list):
        raise ValueFault("a cuboid without a list of points")
    return _around(points)


def _bitmap(item: dict[str, Any], pixels: int) -> Edges:
    bitmap = item.get("bitmap")
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("data"), str):
        raise ValueFault("a bitmap without data")
    origin = bitmap.get("origin")
    if not isinstance(origin, list) or len(origin) != 2:
        raise ValueFault("a bitmap without origin [x, y]")
    left, top = number(origin[0]), number(origin[1])
    inner = _mask_edges(bitmap["data"], pixels)
    return left + inner[0], top + inner[1], left + inner[2], top + inner[3]


def _mask_edges(data: str, pixels: int) -> Edges:
    """The tight box of a mask: base64 of a PNG, mostly deflated once more; alpha or non-zero pixels count."""
    try:
        png = _unpacked(base64.b64decode(data, validate=True), limit=pixels)
        with opened(png, ("PNG",)) as mask:
            if mask.width * mask.height > pixels:
                raise ValueFault(f"a mask of {mask.width}×{mask.height}, limit {pixels} pixels")
            has_alpha = "A" in mask.getbands() or "transparency" in mask.info
            channel = mask.convert("RGBA").getchannel("A") if has_alpha else mask.convert("L")
            found = channel.getbbox()
    except ValueFault:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error, EOFError) as error:
        raise ValueFault(f"the bitmap cannot be read: {error}") from None
    if found is None:
        raise ValueFault("the bitmap is empty")
    return found


def _unpacked(data: bytes, *, limit: int) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    inflater = zlib.decompressobj()
    png = inflater.decompress(data, limit)
    if inflater.unconsumed_tail:
        raise ValueFault(f"the bitmap expands past {limit} bytes")
    return png


def _exterior(points: Any) -> list[Any]:
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if not isinstance(exterior, list):
        raise ValueFault(f"points.exterior must be a list, not {kind_of(exterior)}")
    return exterior


def _around(points: Iterable[Any]) -> Edges:
    """Least and greatest x and y; any order of the corners is fine."""
    xs, ys = [], []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueFault(f"a point is [x, y], not {shown(repr(point), 40)}")
        xs.append(number(point[0]))
        ys.append(number(point[1]))
    if not xs:
        raise ValueFault("no points")
    return min(xs), min(ys), max(xs), max(ys)


_SHAPES: dict[str, Callable[[dict[str, Any], int], Edges]] = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "multipolygon": _multipolygon,
    "bitmap": _bitmap,
    "alpha_mask": _bitmap,
    "cuboid": _cuboid,
    "cuboid_2d": _cuboid,
}
