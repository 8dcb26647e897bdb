"""The neutral record between readers and everything after them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from atoll_contract.archive.extract import Member, Members
from atoll_contract.stage import DatasetLimits
from atoll_stages.convert.problems import Kind, Problems

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jpe", ".jfif")


@dataclass(frozen=True)
class LabelledBox:
    """A box as annotated: its edges in pixels (or 0…1 where the example is `relative`), x to the right, y down.

    `number` is the object's place in its file, from 0. An edge is a coordinate between pixels, so that the box
    of a whole 640×480 picture is 0, 0, 640, 480.
    """

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    number: int


@dataclass(frozen=True)
class Example:
    """One annotated picture. No boxes: a negative.

    `size` is the (width, height) that the annotation claims, in its own orientation; None where it says nothing.
    """

    picture: Member
    annotation: str
    dataset: str
    boxes: tuple[LabelledBox, ...]
    size: tuple[int, int] | None = None
    relative: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Archive:
    """One extracted source as readers see it."""

    name: str
    members: Members
    limits: DatasetLimits
    problems: Problems


@dataclass(frozen=True)
class Reading:
    """What a reader found: classes that the export declares, in its order, and the examples as a stream."""

    classes: tuple[str, ...]
    examples: Iterator[Example]


# Edges computed from a centre and a size miss the border by less; that is no clipping.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Box:
    """Edges relative to the picture, 0…1, with xmin < xmax and ymin < ymax."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True)
class Fitted:
    """A box inside the picture; `clipped` where an edge had to move."""

    box: Box
    clipped: bool


def fit(raw: LabelledBox, *, width: float, height: float) -> Fitted | Kind:
    """`raw` clipped to a frame of `width` × `height` in its own units (1 × 1 for relative boxes).

    A box is refused, with the kind of its fault, when an edge is no finite number, when it is inverted or has
    no area, when nothing of it lies in the frame, or when pixels were expected and all edges are within 0…1.
    """
    edges = (raw.xmin, raw.ymin, raw.xmax, raw.ymax)
    if not all(math.isfinite(edge) for edge in edges):
        return Kind.BOX_MALFORMED
    if raw.xmin > raw.xmax or raw.ymin > raw.ymax:
        return Kind.BOX_INVERTED
    if raw.xmin == raw.xmax or raw.ymin == raw.ymax:
        return Kind.BOX_EMPTY
    # One pixel in the corner is no object; numbers like these are fractions in a format of pixels.
    if min(width, height) > 1 and all(0 <= edge <= 1 for edge in edges):
        return Kind.BOX_NORMALISED
    xmin, xmax = max(0.0, raw.xmin), min(width, raw.xmax)
    ymin, ymax = max(0.0, raw.ymin), min(height, raw.ymax)
    if xmin >= xmax or ymin >= ymax:
        return Kind.BOX_OUTSIDE
    box = Box(xmin / width, ymin / height, xmax / width, ymax / height)
    # A sliver thinner than a float can tell has no area left after the division.
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        return Kind.BOX_EMPTY
    moved = max(
        abs(new - old) / side
        for new, old, side in zip((xmin, ymin, xmax, ymax), edges, (width, height, width, height), strict=True)
    )
    return Fitted(box, clipped=moved > _ROUNDING)


def turned(box: Box, orientation: int) -> Box:
    """`box` of a picture as stored, in the picture turned upright from EXIF `orientation` (1…8)."""
    corners = [_turned_point(x, y, orientation) for x, y in ((box.xmin, box.ymin), (box.xmax, box.ymax))]
    xs, ys = sorted(x for x, _ in corners), sorted(y for _, y in corners)
    return Box(xs[0], ys[0], xs[1], ys[1])


def _turned_point(x: float, y: float, orientation: int) -> tuple[float, float]:
    match orientation:
        case 2:
            return 1 - x, y
        case 3:
            return 1 - x, 1 - y
        case 4:
            return x, 1 - y
        case 5:
            return y, x
        case 6:
            return 1 - y, x
        case 7:
            return 1 - y, 1 - x
        case 8:
            return y, 1 - x
        case _:
            return x, y
