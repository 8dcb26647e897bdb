"""The neutral record between readers and everything after them."""

from collections.abc import Iterator
from dataclasses import dataclass

from atoll_contract.archive import Member, Members
from atoll_contract.stage import DatasetLimits
from atoll_stages.convert.problems import Problems

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
