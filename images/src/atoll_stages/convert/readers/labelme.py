"""labelme: one JSON for each image, beside it, with `shapes`; X-AnyLabeling writes the same."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import annotated_image
from atoll_stages.convert.readers.parsing import annotation_text, json_object, list_of, parse_boxes
from atoll_stages.convert.readers.shapes import Edges, NoArea, UnknownGeometry, around, around_area, count_around
from atoll_stages.convert.readers.values import InvalidValue, kind_of, positive_size, text_of
from atoll_stages.convert.readers.yolo_lines import may_be_label

# The image itself, in base64, may lie before one of them.
_KEYS = (b'"shapes"', b'"imagePath"')
# What labelme offers while one labels, for all images.
_LISTS = ("labels.txt", "flags.txt")
_RECTANGLE = "rectangle"
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
# A mask has the corners of its box as points, a rotation the corners of the turned rectangle.
_AROUND_POINTS = (_RECTANGLE, "polygon", "mask", "rotation")


class LabelmeReader(Reader):
    format = DatasetFormat.LABELME
    layout = "a .json of labelme for each picture"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        for base in _LISTS:
            for file in archive.members.by_base(base):
                if _is_list(archive, file):
                    archive.use(file)
        return Annotations((), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    return (file for file in archive.files(".json") if archive.json_texts.has(file, *_KEYS))


def _is_list(archive: Archive, file: Member) -> bool:
    """Returns whether a text file has names alone, and no line that may be a label."""
    try:
        return not any(map(may_be_label, annotation_text(archive, file).splitlines()))
    except DatasetError:
        return False


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        with archive.skipping_unreadable(file):
            document = json_object(archive, file)
            shapes = list_of(document, "shapes", file=file.name)
            name = document.get("imagePath")
            name = name if isinstance(name, str) else ""
            image = annotated_image(archive, file, name=name, objects=len(shapes))
            if image is not None:
                boxes = parse_boxes(archive, file, enumerate(shapes), partial(_box, archive, file))
                size = positive_size(document.get("imageWidth"), document.get("imageHeight"))
                yield AnnotatedImage(image, file.name, file.folder, boxes, size)


def _box(archive: Archive, file: Member, shape: Any, index: int) -> LabelledBox:
    if not isinstance(shape, dict):
        raise InvalidValue(f"{kind_of(shape)} where an object is needed")
    label = text_of(shape.get("label"))
    if label is None:
        raise InvalidValue("a shape without label")
    # Files of before 2018 have polygons alone, and no types.
    kind = shape.get("shape_type") or "polygon"
    edges = _edges(kind, shape.get("points"))
    if kind != _RECTANGLE:
        count_around(archive, file, index, f"the box around a {kind}")
    return LabelledBox(label, *edges, number=index)


def _edges(kind: Any, points: Any) -> Edges:
    if not isinstance(points, list):
        raise InvalidValue(f"points must be a list, not {kind_of(points)}")
    if kind in _WITHOUT_AREA:
        raise NoArea(f"a {kind} has no area")
    if kind in _AROUND_POINTS:
        return around(points) if kind == _RECTANGLE else around_area(points, kind)
    if kind != "circle":
        raise UnknownGeometry(f"shape {shown(str(kind), 40)}")
    if len(points) != 2:
        raise InvalidValue(f"a circle has a centre and a point on it, this one {len(points)} points")
    left, top, _, _ = around(points[:1])
    x, y, _, _ = around(points[1:])
    radius = math.hypot(x - left, y - top)
    return left - radius, top - radius, left + radius, top + radius
