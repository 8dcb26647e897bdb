"""COCO detection: one JSON with `images`, `annotations` and `categories` for many images.

Format: cocodataset.org/#format-data; Roboflow writes `<split>/_annotations.coco.json` beside its images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import PIECE, shown
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.problems import Kind
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import dataset_of, named_image
from atoll_stages.convert.readers.parsing import (
    InvalidValue,
    NoBox,
    invalid,
    json_object,
    list_of,
    number,
    parse_boxes,
    positive_size,
)

_KEYS = (b'"images"', b'"annotations"', b'"categories"')


class CocoReader(Reader):
    format = DatasetFormat.COCO
    layout = "a .json with images, annotations and categories"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        files = list(_annotation_files(archive))
        # COCO's own archives have captions and keypoints of the same images beside the instances.
        files = [file for file in files if file.base.startswith("instances")] or files
        if len(files) == 1:
            document = json_object(archive, files[0])
            names = _categories(archive, document, files[0])
            return Annotations(tuple(names.values()), _images(archive, document, names, files[0]))
        # The classes of all files are needed first. Each file is then parsed again for its images, so that only one
        # is in memory.
        classes: dict[str, None] = {}
        for file in files:
            classes.update(dict.fromkeys(_categories(archive, json_object(archive, file), file).values()))
        return Annotations(tuple(classes), _images_of_all(archive, files))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    return (file for file in archive.files(".json") if _has_keys(file))


def _has_keys(file: Member) -> bool:
    """Returns whether the text contains all keys; it is searched without being parsed."""
    missing, tail = set(_KEYS), b""
    with file.path.open("rb") as stream:
        while missing and (piece := stream.read(PIECE)):
            missing -= {key for key in missing if key in tail + piece}
            tail = piece[-max(map(len, _KEYS)) :]
    return not missing


def _categories(archive: Archive, document: dict[str, Any], file: Member) -> dict[int, str]:
    names: dict[int, str] = {}
    for item in _unique_items(document, "categories", "name", file):
        names[item["id"]] = item["name"]
        archive.check_class_count(file, len(names), "categories")
    return names


def _unique_items(document: dict[str, Any], key: str, field: str, file: Member) -> Iterator[dict[str, Any]]:
    """Yields the items of a list, which must have unique ids and a text in `field`."""
    found = set()
    for index, item in enumerate(list_of(document, key, file=file.name)):
        if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get(field), str):
            raise invalid(file.name, f"{key}[{index}] needs a whole number id and a {field}")
        if item["id"] in found:
            raise invalid(file.name, f"{key}[{index}]: id {item['id']} is there twice")
        found.add(item["id"])
        yield item


def _images_of_all(archive: Archive, files: list[Member]) -> Iterator[AnnotatedImage]:
    for file in files:
        document = json_object(archive, file)
        yield from _images(archive, document, _categories(archive, document, file), file)


@dataclass
class _ImageEntry:
    """An entry of `images`, and the indices of its annotations."""

    file_name: str
    size: tuple[int, int] | None
    annotations: list[int]


def _images(
    archive: Archive, document: dict[str, Any], names: dict[int, str], file: Member
) -> Iterator[AnnotatedImage]:
    entries: dict[int, _ImageEntry] = {}
    for item in _unique_items(document, "images", "file_name", file):
        size = positive_size(item.get("width"), item.get("height"))
        entries[item["id"]] = _ImageEntry(item["file_name"], size, [])
    annotations = list_of(document, "annotations", file=file.name)
    for index, item in enumerate(annotations):
        image_id = item.get("image_id") if isinstance(item, dict) else None
        if not _is_id(image_id) or image_id not in entries:
            detail = f"image_id {shown(repr(image_id), 40)} is not in images"
            archive.drop_object(Kind.BOX_MALFORMED, file, index, detail)
        else:
            entries[image_id].annotations.append(index)
    dataset, parse = dataset_of(file), partial(_box, names)
    for entry in entries.values():
        if (image := named_image(archive, entry.file_name, file)) is not None:
            boxes = parse_boxes(archive, file, ((index, annotations[index]) for index in entry.annotations), parse)
            yield AnnotatedImage(image, file.name, dataset, boxes, entry.size)


class _Crowd(NoBox):
    kind = Kind.CROWD


def _box(names: dict[int, str], item: dict[str, Any], index: int) -> LabelledBox:
    if item.get("iscrowd") == 1:
        raise _Crowd("a crowd has no single box")
    category = item.get("category_id")
    if not _is_id(category) or category not in names:
        raise InvalidValue(f"category_id {shown(repr(category), 40)} is not in categories")
    left, top, width, height = _bbox(item)
    return LabelledBox(names[category], left, top, left + width, top + height, number=index)


def _bbox(item: dict[str, Any]) -> tuple[float, float, float, float]:
    """Returns (x, y, width, height) of the bbox or, without one, around the polygons of the segmentation."""
    bbox = item.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        left, top, width, height = (number(value) for value in bbox)
        return left, top, width, height
    polygons = item.get("segmentation")
    if bbox is not None or not isinstance(polygons, list) or not all(isinstance(p, list) for p in polygons):
        raise InvalidValue(f"bbox must be [x, y, width, height], not {shown(repr(bbox), 40)}")
    xs = [number(value) for polygon in polygons for value in polygon[0::2]]
    ys = [number(value) for polygon in polygons for value in polygon[1::2]]
    if not xs or not ys:
        raise InvalidValue("neither bbox nor segmentation")
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
