"""Turns annotated boxes into boxes of the prepared image: clipped to it, upright, relative to its sides."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.classes import ClassNames
from atoll_stages.convert.prepared import ImageFacts
from atoll_stages.convert.problems import Action, Kind, Problems
from atoll_stages.convert.readers.base import LabelledBox

# An edge that rounding moves out of the image by less than this share of the side does not count as clipped.
_ROUNDING = 1e-4
# Two sizes whose ratios of width to height differ by a smaller share are one image at two scales.
_SAME_RATIO = 0.01


class Box(NamedTuple):
    """Edges relative to the image, 0…1, with xmin < xmax and ymin < ymax."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class ClassBox(NamedTuple):
    """A usable box with the final name of its class."""

    label: str
    box: Box


@dataclass(frozen=True)
class Frame:
    """The width and height to which annotated numbers refer, and the EXIF orientation still to be applied to boxes.

    `scaled` is set where the annotation was made on the image at another scale.
    """

    width: float
    height: float
    orientation: int = 1
    scaled: bool = False


def annotation_frame(size: tuple[int, int] | None, image: ImageFacts, *, relative: bool) -> Frame | None:
    """Returns the frame in which an image was annotated; None where the claimed `size` does not fit the image.

    Labelling tools show images upright. This function assumes the same, unless the claimed (width, height) is that of
    the image as stored.
    """
    stored = (image.width, image.height)
    upright = (stored[1], stored[0]) if image.orientation >= 5 else stored
    if relative:
        return Frame(1, 1)
    if size is None or size == upright:
        return Frame(*upright)
    if size == stored:
        return Frame(*stored, orientation=image.orientation)
    claimed, real = size[0] / size[1], upright[0] / upright[1]
    if abs(claimed - real) <= _SAME_RATIO * real:
        return Frame(*size, scaled=True)
    return None


def clip_boxes(
    boxes: Iterable[LabelledBox], frame: Frame, *, file: str, names: ClassNames, problems: Problems
) -> tuple[ClassBox, ...]:
    """Returns the usable boxes of an image; the others are counted in `problems` under the annotation `file`.

    Raises:
        DatasetError: a class name is invalid, or there are too many classes.
    """
    usable = []
    for raw in boxes:
        try:
            label = names.resolve(raw.label)
        except DatasetError as error:
            raise DatasetError(error.reason, f"{shown(file)} object {raw.number}: {error.message}") from None
        if label is None:
            continue
        clipped = clip_box(raw, width=frame.width, height=frame.height)
        if isinstance(clipped, Kind):
            problems.add(clipped, Action.DROPPED, file=file, number=raw.number, detail=_edges(raw, frame))
            continue
        if clipped.moved:
            problems.add(Kind.BOX_CLIPPED, Action.CLIPPED, file=file, number=raw.number, detail=_edges(raw, frame))
        usable.append(ClassBox(label, orient_box(clipped.box, frame.orientation)))
    return tuple(usable)


def _edges(raw: LabelledBox, frame: Frame) -> str:
    return f"[{raw.xmin:g}, {raw.ymin:g}, {raw.xmax:g}, {raw.ymax:g}] in {frame.width:g}×{frame.height:g}"


class ClippedBox(NamedTuple):
    """A box inside the image; `moved` says whether an edge had to move."""

    box: Box
    moved: bool


def clip_box(raw: LabelledBox, *, width: float, height: float) -> ClippedBox | Kind:
    """Returns `raw` clipped to a frame of `width` × `height` in its own units (1 × 1 for relative boxes).

    A box is refused, with the kind of its fault, when an edge is not a finite number, when it is inverted or has no
    area, when it lies outside the frame, or when pixels were expected and all edges are within 0…1.
    """
    edges = (raw.xmin, raw.ymin, raw.xmax, raw.ymax)
    if not all(math.isfinite(edge) for edge in edges):
        return Kind.BOX_MALFORMED
    if raw.xmin > raw.xmax or raw.ymin > raw.ymax:
        return Kind.BOX_INVERTED
    if raw.xmin == raw.xmax or raw.ymin == raw.ymax:
        return Kind.BOX_EMPTY
    # Nobody labels one pixel in the corner; these numbers are fractions in a format of pixels.
    if min(width, height) > 1 and all(0 <= edge <= 1 for edge in edges):
        return Kind.BOX_NORMALISED
    xmin, xmax = max(0.0, raw.xmin), min(width, raw.xmax)
    ymin, ymax = max(0.0, raw.ymin), min(height, raw.ymax)
    if xmin >= xmax or ymin >= ymax:
        return Kind.BOX_OUTSIDE
    box = Box(xmin / width, ymin / height, xmax / width, ymax / height)
    # The division can leave no area of a very thin box.
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        return Kind.BOX_EMPTY
    across = max(xmin - raw.xmin, raw.xmax - xmax) / width
    moved = max(across, max(ymin - raw.ymin, raw.ymax - ymax) / height)
    return ClippedBox(box, moved=moved > _ROUNDING)


def orient_box(box: Box, orientation: int) -> Box:
    """Returns `box` of an image as stored, in the image turned upright by its EXIF `orientation` (1…8)."""
    xs, ys = [box.xmin, box.xmax], [box.ymin, box.ymax]
    if orientation >= 5:
        xs, ys = ys, xs
    if orientation in (2, 3, 6, 7):
        xs = [1 - x for x in reversed(xs)]
    if orientation in (3, 4, 7, 8):
        ys = [1 - y for y in reversed(ys)]
    return Box(xs[0], ys[0], xs[1], ys[1])
