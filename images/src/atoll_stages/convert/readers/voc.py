"""Pascal VOC: one XML for each image, as labelImg, Roboflow and the VOC devkit write it."""

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.archive.limits import size as shown_size
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.base import (
    AnnotatedImage,
    Annotations,
    Archive,
    LabelledBox,
    Reader,
)
from atoll_stages.convert.readers.lookup import annotated_image
from atoll_stages.convert.readers.parsing import (
    annotation_bytes,
    invalid,
    parse_boxes,
)
from atoll_stages.convert.readers.shapes import Edges, around, count_around, rotated
from atoll_stages.convert.readers.strict_xml import xml_root
from atoll_stages.convert.readers.values import InvalidValue, number_text, positive_size

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_HEAD = 2**16
# CVAT's own XML has the root <annotations>.
_ROOT = re.compile(rb"<annotation[\s>/]")
# The elements of Roboflow's polygons.
_COORDINATE = re.compile(r"([xy])(\d+)")
# In memory an element takes some hundred times its bytes in the file; the file of one image is small.
_MAX_XML = 4 * 2**20


class VocReader(Reader):
    format = DatasetFormat.VOC
    layout = "an .xml for each picture"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        return Annotations((), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    for file in archive.files(".xml"):
        with file.open() as stream:
            head = stream.read(_HEAD)
        # A file with a DTD may have its annotation further down; the parser refuses it.
        if _ROOT.search(head) or b"<!DOCTYPE" in head:
            yield file


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        with archive.skipping_unreadable(file):
            root = _parse(archive, file)
            name = (root.findtext("filename") or "").strip()
            image = annotated_image(archive, file, name=name, objects=len(root.findall("object")))
            if image is None:
                continue
            dataset = file.folder.removesuffix("Annotations").rstrip("/")
            boxes = parse_boxes(archive, file, _objects(root), partial(_box, archive, file))
            yield AnnotatedImage(image, file.name, dataset, boxes, _size(root))


def _objects(root: "Element") -> Iterator[tuple[int, "Element"]]:
    """Yields the numbered objects, without those that somebody deleted in LabelMe, which keeps them."""
    for number, item in enumerate(root.findall("object")):
        if item.findtext("deleted") != "1":
            yield number, item


def _parse(archive: Archive, file: Member) -> "Element":
    """Returns the root of an annotation.

    Raises:
        DatasetError: DatasetUnsafe, it has a DTD; DatasetTooLarge; AnnotationInvalid, it is not XML or no annotation.
    """
    if file.size > _MAX_XML:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"annotation file {shown(file.name)} has {shown_size(file.size)}, limit {shown_size(_MAX_XML)}",
        )
    root = xml_root(file, annotation_bytes(archive, file))
    if root.tag != "annotation":
        raise invalid(file.name, f"line 1: the root must be <annotation>, not <{root.tag[:40]}>")
    return root


def _size(root: "Element") -> tuple[int, int] | None:
    try:
        return positive_size(number_text(root.findtext("size/width")), number_text(root.findtext("size/height")))
    except InvalidValue:
        return None


def _box(archive: Archive, file: Member, item: "Element", index: int) -> LabelledBox:
    label = (item.findtext("name") or "").strip()
    if not label:
        raise InvalidValue("an object without name")
    edges, shape = _edges(item)
    if shape:
        count_around(archive, file, index, f"the box around its {shape}")
    return LabelledBox(label, *edges, number=index)


def _edges(item: "Element") -> tuple[Edges, str]:
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
    # LabelMe draws rectangles as polygons, too.
    return _polygon(polygon), "" if item.findtext("type") == "bounding_box" else "polygon"


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
