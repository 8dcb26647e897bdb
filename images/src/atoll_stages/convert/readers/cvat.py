"""CVAT for images 1.1: one `annotations.xml` with an element for each image of a task or project.

Its images are below `images`, those of a subset below `images/<subset>`. The file is read as a stream.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.problems import Action, Kind, counted
from atoll_stages.convert.readers.base import (
    IMAGE_SUFFIXES,
    AnnotatedImage,
    Annotations,
    Archive,
    LabelledBox,
    Reader,
)
from atoll_stages.convert.readers.lookup import Match, counted_image, dataset_of, match_name
from atoll_stages.convert.readers.parsing import check_size, parse_boxes
from atoll_stages.convert.readers.shapes import (
    Edges,
    NoArea,
    UnknownGeometry,
    around,
    around_area,
    count_around,
    rotated,
)
from atoll_stages.convert.readers.strict_xml import XmlEvent, xml_events
from atoll_stages.convert.readers.values import InvalidValue, number_text, positive_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_HEAD = 2**16
_ROOT = re.compile(rb"<annotations[\s>/]")
_OWN_TAGS = (b"<meta", b"<image", b"<track")
# A corner of a cuboid.
_CORNER = re.compile(r"x([tb][lr][12])")
# The depth of the root's children.
_CHILD = 2


class CvatReader(Reader):
    format = DatasetFormat.CVAT
    layout = "annotations.xml of CVAT for images"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        classes: dict[str, None] = {}
        for file in _annotation_files(archive):
            check_size(archive, file)
            for name in _labels(file):
                classes[name] = None
                archive.check_class_count(file, len(classes), "labels")
        return Annotations(tuple(classes), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    for file in archive.files(".xml"):
        with file.open() as stream:
            head = stream.read(_HEAD)
        if _ROOT.search(head) and any(tag in head for tag in _OWN_TAGS):
            yield file


def _labels(file: Member) -> Iterator[str]:
    """Yields the labels that a task or project declares, without those of a skeleton's points and of whole images.

    Raises:
        DatasetError: DatasetMalformed, it is CVAT's export for videos.
    """
    with closing(xml_events(file)) as events:
        for is_start, depth, element in events:
            if is_start and depth == _CHILD and element.tag == "track":
                raise DatasetError(
                    Reason.DATASET_MALFORMED,
                    f'{shown(file.name)} is "CVAT for video 1.1", whose tracks are not read; export the task as '
                    '"CVAT for images 1.1" or COCO, with images',
                )
            if is_start and depth == _CHILD and element.tag == "image":
                return
            if not is_start and element.tag == "label":
                name = element.findtext("name")
                if name and not element.findtext("parent") and element.findtext("type") != "tag":
                    yield name
                element.clear()


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    tasks: dict[int, str] = {}
    for file in _annotation_files(archive):
        with closing(xml_events(file)) as events:
            root: Element | None = None
            for is_start, depth, element in events:
                if root is None:
                    root = element
                elif is_start and depth == _CHILD and element.tag == "image":
                    task = element.get("task_id", "")
                    found = _image(archive, file, element, events)
                    root.clear()
                    if found is None:
                        continue
                    if tasks.setdefault(found.image.number, task) == task:
                        yield found
                    else:
                        _leave_out(archive, found, tasks[found.image.number], task)


def _leave_out(archive: Archive, item: AnnotatedImage, first: str, task: str) -> None:
    """Counts what a task says of an image of another task: both had one name, and the last file has overwritten the
    others, so these are boxes of an image that is gone."""
    archive.totals.objects_left_out[Kind.ANNOTATION_DUPLICATE] += len(item.boxes)
    tasks = f"task {shown(task, 20)} and {shown(first, 20)}"
    detail = f"{shown(item.image.name, 80)} is of {tasks}; one file has overwritten the other"
    archive.problems.add(Kind.ANNOTATION_DUPLICATE, Action.SKIPPED, file=item.annotation, detail=detail)


def _image(archive: Archive, file: Member, element: "Element", events: Iterator[XmlEvent]) -> AnnotatedImage | None:
    """Reads an image's element to its end; returns None where the image is missing."""
    name, subset = element.get("name", ""), element.get("subset", "")
    size = positive_size(element.get("width"), element.get("height"))
    found, tags = _find(archive, file, name, subset), list[str]()
    shapes = _shapes(element, events, tags)
    if found.image is None:
        count = sum(1 for _ in shapes)
        missing = f"{shown(name)} with {counted(count, 'shape')} is not in the archive"
        counted_image(archive, file, found, missing, objects=count)
        return None
    boxes = parse_boxes(archive, file, shapes, partial(_box, archive, file))
    counted_image(archive, file, found, "")
    own = "/".join(part for part in (file.folder, subset) if part)
    dataset = own if subset else dataset_of(file)
    return AnnotatedImage(found.image, file.name, dataset, boxes, size, tags=tuple(tags))


def _shapes(image: "Element", events: Iterator[XmlEvent], tags: list[str]) -> Iterator[tuple[int, "Element"]]:
    """Yields the numbered shapes of an image, up to its end; adds its tags to `tags`."""
    number = 0
    for is_start, depth, element in events:
        if not is_start and depth == _CHILD:
            return
        if not is_start and depth == _CHILD + 1:
            if element.tag == "tag":
                tags.append(element.get("label", ""))
            else:
                yield number, element
                number += 1
            image.clear()


def _find(archive: Archive, file: Member, name: str, subset: str) -> Match:
    """Returns the image of this name; the frames of a video have no suffix."""
    found = Match(name)
    for path in (f"{subset}/{name}", name) if subset else (name,):
        found = match_name(archive.members, path, near=file.folder, label=subset)
        if found.image is not None:
            break
    is_frame = found.image is not None and not found.name.lower().endswith(IMAGE_SUFFIXES)
    return (
        replace(found, name=found.name + PurePosixPath(found.image.name).suffix) if is_frame and found.image else found
    )


def _box(archive: Archive, file: Member, item: "Element", index: int) -> LabelledBox:
    label = item.get("label", "").strip()
    if not label:
        raise InvalidValue(f"<{item.tag}> without label")
    edges, shape = _edges(item)
    if shape:
        count_around(archive, file, index, f"the box around its {shape}")
    return LabelledBox(label, *edges, number=index)


def _edges(item: "Element") -> tuple[Edges, str]:
    """Returns the box of a shape, and the shape's name where the box is one around it.

    Raises:
        NoArea, UnknownGeometry: this shape has no box.
        InvalidValue: its values are not what it requires.
    """
    if item.tag in ("polyline", "points"):
        raise NoArea(f"{shown(item.tag)} have no area")
    if (shape := _SHAPES.get(item.tag)) is None:
        raise UnknownGeometry(f"shape {shown(item.tag, 40)}")
    if item.tag == "box":
        return shape(item), "turned rectangle" if _rotation(item) else ""
    return shape(item), item.tag


def _number(item: "Element", name: str) -> float:
    text = item.get(name)
    if text is None:
        raise InvalidValue(f"<{item.tag}> has no {name}")
    return number_text(text)


def _rotation(item: "Element") -> float:
    """Returns the degrees by which a rectangle or ellipse is turned about its centre."""
    return number_text(item.get("rotation", "0")) % 360


def _rectangle(item: "Element") -> Edges:
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
    "box": _rectangle,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "cuboid": _cuboid,
    "mask": _mask,
    "skeleton": _skeleton,
}
