"""The box around a shape: points, rotated rectangles and the run lengths of COCO's masks."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import Archive
from atoll_stages.convert.readers.values import InvalidValue, NoBox, kind_of, number

# The left, top, right and bottom edge.
Edges = tuple[float, float, float, float]


class NoArea(NoBox):
    """The geometry is a point or a line."""

    kind = Kind.GEOMETRY_WITHOUT_AREA


class UnknownGeometry(NoBox):
    """Atoll does not know the geometry."""

    kind = Kind.GEOMETRY_UNKNOWN


def count_around(archive: Archive, file: Member, index: int, shape: str) -> None:
    """Counts an object of an annotation file for which the box around its shape is taken."""
    archive.problems.add(Kind.BOX_AROUND, Action.BOXED, file=file.name, number=index, detail=shape)


def around(points: Iterable[Any]) -> Edges:
    """Returns the smallest and largest x and y of points [x, y] in any order.

    Raises:
        InvalidValue: there is no point, or one is something else.
    """
    xs, ys = [], []
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise InvalidValue(f"a point is [x, y], not {shown(repr(point), 40)}")
        xs.append(number(point[0]))
        ys.append(number(point[1]))
    if not xs:
        raise InvalidValue("no points")
    return min(xs), min(ys), max(xs), max(ys)


def around_area(points: Iterable[Any], what: str) -> Edges:
    """Returns the box around points.

    Raises:
        NoArea: they lie on one upright or level line, as a single point does; `what` is the geometry's name.
    """
    edges = around(points)
    if edges[0] == edges[2] or edges[1] == edges[3]:
        raise NoArea(f"a {what} of these points has no area")
    return edges


def rotated(edges: Edges, radians: float) -> Edges:
    """Returns the upright box around a rectangle that is turned about its centre."""
    if not math.isfinite(radians):
        raise InvalidValue(f"an angle of {radians} is not a finite number")
    left, top, right, bottom = edges
    cosine, sine = abs(math.cos(radians)), abs(math.sin(radians))
    width, height = right - left, bottom - top
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def polygon_edges(polygons: Any) -> Edges:
    """Returns the box around COCO's polygons: lists [x1, y1, x2, y2, …], or one such list.

    Raises:
        InvalidValue: they are something else, or none.
    """
    if not isinstance(polygons, list):
        raise InvalidValue(f"polygons must be lists of numbers, not {kind_of(polygons)}")
    if polygons and not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]
    points: list[Any] = []
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise InvalidValue(f"a polygon is a list of numbers, not {kind_of(polygon)}")
        if polygon and isinstance(polygon[0], list):
            points += polygon
        elif len(polygon) % 2:
            raise InvalidValue(f"a polygon has pairs of numbers, this one {len(polygon)} numbers")
        else:
            points += [[polygon[at], polygon[at + 1]] for at in range(0, len(polygon), 2)]
    return around(points)


def run_length_edges(mask: dict[str, Any]) -> Edges:
    """Returns the box around the set pixels of a COCO mask: `size` [height, width], and `counts` as list or text.

    Runs go down the columns, and the first one is not set.

    Raises:
        InvalidValue: the mask is damaged, or no pixel is set.
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise InvalidValue(f"a mask's size is [height, width], not {shown(repr(size), 40)}")
    height, width = (int(number(side)) for side in size)
    if height < 1 or width < 1:
        raise InvalidValue(f"a mask's size is [height, width], not {shown(repr(size), 40)}")
    if not isinstance(counts, str | list):
        raise InvalidValue(f"a mask's counts are a list or a text, not {kind_of(counts)}")
    runs = _packed_counts(counts) if isinstance(counts, str) else (int(number(count)) for count in counts)
    at, is_set = 0, False
    left, top, right, bottom = width, height, 0, 0
    for run in runs:
        end = at + run
        if run < 0 or end > height * width:
            raise InvalidValue(f"a mask's counts leave its {width}×{height} pixels")
        if is_set and run:
            first, last = at // height, (end - 1) // height
            left, right = min(left, first), max(right, last + 1)
            one_column = first == last
            top = min(top, at % height if one_column else 0)
            bottom = max(bottom, (end - 1) % height + 1 if one_column else height)
        at, is_set = end, not is_set
    if right == 0:
        raise InvalidValue("the mask is empty")
    return left, top, right, bottom


def _packed_counts(text: str) -> Iterator[int]:
    """Yields COCO's packed run lengths: six bits a character, and from the fourth on the change since two before."""
    previous = [0, 0, 0]
    value = shift = index = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InvalidValue(f"{shown(character)} is not a character of a mask's counts")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        if index > 2:
            value += previous[-2]
        previous = [previous[-2], previous[-1], value]
        yield value
        value, shift, index = 0, 0, index + 1
    if shift:
        raise InvalidValue("a mask's counts end too early")
