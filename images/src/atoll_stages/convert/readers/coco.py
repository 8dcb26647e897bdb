"""COCO detection: one JSON with `images`, `annotations` and `categories` for many pictures.

Format: cocodataset.org/#format-data; Roboflow writes `<part>/_annotations.coco.json` beside its pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import PIECE, shown
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example import Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.parsing import (
    ValueFault,
    dataset_of,
    invalid,
    json_object,
    list_of,
    number,
    picture_by_name,
    positive_size,
)

_KEYS = (b'"images"', b'"annotations"', b'"categories"')


def detects(archive: Archive) -> bool:
    """Whether a JSON file has the three keys of COCO."""
    return next(_files(archive), None) is not None


def read(archive: Archive) -> Reading:
    files = list(_files(archive))
    # Beside the instances, COCO itself ships captions and keypoints of the same pictures.
    instances = [member for member in files if member.base.startswith("instances")]
    return _Reader(archive).read(instances or files)


def _files(archive: Archive) -> Iterator[Member]:
    for member in archive.members.with_suffix(".json"):
        if not member.base.startswith("._") and _has_keys(member):
            yield member


def _has_keys(member: Member) -> bool:
    """Whether all keys stand somewhere in the text; the file is not parsed for it."""
    missing, tail = set(_KEYS), b""
    with member.path.open("rb") as file:
        while missing and (piece := file.read(PIECE)):
            missing -= {key for key in missing if key in tail + piece}
            tail = piece[-max(map(len, _KEYS)) :]
    return not missing


@dataclass
class _Picture:
    """An entry of `images`, and the places of its annotations."""

    name: str
    size: tuple[int, int] | None
    objects: list[int]


class _Reader:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._problems = archive.problems

    def read(self, files: list[Member]) -> Reading:
        # Categories come first in a reading, for the order of classes; the files are parsed again for their examples,
        # one at a time, so that only one lies in memory.
        classes: dict[str, None] = {}
        if len(files) == 1:
            document = json_object(self._archive, files[0])
            names = self._categories(document, files[0])
            return Reading(tuple(names.values()), self._examples(document, names, files[0]))
        for member in files:
            classes.update(dict.fromkeys(self._categories(json_object(self._archive, member), member).values()))
        return Reading(tuple(classes), self._all(files))

    def _all(self, files: list[Member]) -> Iterator[Example]:
        for member in files:
            document = json_object(self._archive, member)
            yield from self._examples(document, self._categories(document, member), member)

    def _categories(self, document: dict[str, Any], member: Member) -> dict[int, str]:
        names: dict[int, str] = {}
        for place, item in enumerate(list_of(document, "categories", file=member.name)):
            if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get("name"), str):
                raise invalid(member.name, f"categories[{place}] needs a whole number id and a name")
            if item["id"] in names:
                raise invalid(member.name, f"categories[{place}]: id {item['id']} is there twice")
            names[item["id"]] = item["name"]
            if len(names) > self._archive.limits.classes:
                raise DatasetError(
                    Reason.DATASET_TOO_LARGE,
                    f"{shown(member.name)} has more than {self._archive.limits.classes} categories",
                )
        return names

    def _examples(self, document: dict[str, Any], names: dict[int, str], member: Member) -> Iterator[Example]:
        pictures = _pictures(document, member)
        annotations = list_of(document, "annotations", file=member.name)
        for place, item in enumerate(annotations):
            image_id = item.get("image_id") if isinstance(item, dict) else None
            if not _is_id(image_id) or image_id not in pictures:
                self._malformed(member, place, f"image_id {shown(repr(image_id), 40)} is not in images")
            else:
                pictures[image_id].objects.append(place)
        dataset = dataset_of(member)
        for entry in pictures.values():
            picture = picture_by_name(self._archive.members, entry.name, near=member.folder)
            if picture is None:
                detail = f"{shown(entry.name)} is not in the archive, or there more than once"
                self._problems.add(Kind.PICTURE_MISSING, Action.SKIPPED, file=member.name, detail=detail)
                continue
            boxes = (self._box(annotations[place], place, names, member) for place in entry.objects)
            yield Example(
                picture=picture,
                annotation=member.name,
                dataset=dataset,
                boxes=tuple(box for box in boxes if box is not None),
                size=entry.size,
            )

    def _box(self, item: dict[str, Any], place: int, names: dict[int, str], member: Member) -> LabelledBox | None:
        if item.get("iscrowd") == 1:
            detail = "a crowd has no single box"
            self._problems.add(Kind.CROWD, Action.DROPPED, file=member.name, number=place, detail=detail)
            return None
        try:
            category = item.get("category_id")
            if not _is_id(category) or category not in names:
                raise ValueFault(f"category_id {shown(repr(category), 40)} is not in categories")
            left, top, width, height = _bbox(item)
        except ValueFault as error:
            self._malformed(member, place, str(error))
            return None
        return LabelledBox(names[category], left, top, left + width, top + height, number=place)

    def _malformed(self, member: Member, place: int, detail: str) -> None:
        self._problems.add(Kind.BOX_MALFORMED, Action.DROPPED, file=member.name, number=place, detail=detail)


def _pictures(document: dict[str, Any], member: Member) -> dict[int, _Picture]:
    pictures: dict[int, _Picture] = {}
    for place, item in enumerate(list_of(document, "images", file=member.name)):
        if not isinstance(item, dict) or not _is_id(item.get("id")) or not isinstance(item.get("file_name"), str):
            raise invalid(member.name, f"images[{place}] needs a whole number id and a file_name")
        if item["id"] in pictures:
            raise invalid(member.name, f"images[{place}]: id {item['id']} is there twice")
        size = positive_size(item.get("width"), item.get("height"))
        pictures[item["id"]] = _Picture(item["file_name"], size, [])
    return pictures


def _bbox(item: dict[str, Any]) -> tuple[float, float, float, float]:
    """[x, y, width, height]; where it is missing, around the polygons of the segmentation."""
    bbox = item.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        left, top, width, height = (number(value) for value in bbox)
        return left, top, width, height
    polygons = item.get("segmentation")
    if bbox is not None or not isinstance(polygons, list) or not all(isinstance(p, list) for p in polygons):
        raise ValueFault(f"bbox must be [x, y, width, height], not {shown(repr(bbox), 40)}")
    xs = [number(value) for polygon in polygons for value in polygon[0::2]]
    ys = [number(value) for polygon in polygons for value in polygon[1::2]]
    if not xs or not ys:
        raise ValueFault("neither bbox nor segmentation")
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
