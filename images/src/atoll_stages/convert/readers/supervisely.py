"""Supervisely: one JSON for each image in `<dataset>/ann`, images in `<dataset>/img`.

Classes are in the `meta.json` of a project. An object has one of many geometries; the box around it is taken.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.base import (
    IMAGE_SUFFIXES,
    AnnotatedImage,
    Annotations,
    Archive,
    LabelledBox,
    Reader,
)
from atoll_stages.convert.readers.lookup import Match, counted_image
from atoll_stages.convert.readers.parsing import invalid, json_object, list_of, parse_boxes
from atoll_stages.convert.readers.shapes import count_around
from atoll_stages.convert.readers.supervisely_shapes import RECTANGLE, box_edges
from atoll_stages.convert.readers.values import InvalidValue, id_of, kind_of, positive_size


class SuperviselyReader(Reader):
    format = DatasetFormat.SUPERVISELY
    layout = "<dataset>/ann/<picture>.json"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        projects = _Projects(archive)
        return Annotations(projects.classes(), _images(archive, projects))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    for file in archive.files(".json"):
        if file.folder.rpartition("/")[2] == "ann" and not file.name.startswith("__MACOSX/"):
            yield file


class _Projects:
    """The class titles of an archive's projects, from their `meta.json` files, in order."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._titles: dict[str, dict[Any, str]] = {}
        self._latest = ("", "")
        for member in archive.members.with_suffix(".json"):
            if member.base == "meta.json" and member.folder.rpartition("/")[2] not in ("ann", "meta", "img_info"):
                self._titles[member.folder] = self._read(member)

    def classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(title for titles in self._titles.values() for title in titles.values()))

    def of(self, folder: str) -> str:
        """Returns the project that contains `folder`: the nearest parent with a meta.json, else the top folder."""
        if self._latest[0] != folder:
            self._latest = (folder, self._search(folder))
        return self._latest[1]

    def _search(self, folder: str) -> str:
        path = PurePosixPath(folder)
        for parent in (path, *path.parents):
            name = "" if str(parent) == "." else str(parent)
            if name in self._titles:
                return name
        return path.parts[0] if len(path.parts) > 1 else ""

    def titles(self, project: str) -> dict[Any, str]:
        return self._titles.get(project, {})

    def _read(self, file: Member) -> dict[Any, str]:
        """Returns titles by class id, or by index where the export has no ids."""
        self._archive.use(file)
        document, titles = json_object(self._archive, file), dict[Any, str]()
        if (kind := document.get("projectType")) not in (None, "images"):
            raise DatasetError(
                Reason.DATASET_MALFORMED,
                f"{shown(file.name)} is of a Supervisely project of {shown(str(kind), 40)}; only those of images are "
                "read: turn it into images in Supervisely, and export these",
            )
        for index, item in enumerate(list_of(document, "classes", file=file.name)):
            if not isinstance(item, dict) or not isinstance(item.get("title"), str):
                raise invalid(file.name, f"class {index} has no title")
            key = id_of(item.get("id"))
            titles[key if key is not None and key not in titles else f"#{index}"] = item["title"]
            self._archive.check_class_count(file, len(titles))
        return titles


def _object_count(archive: Archive, file: Member) -> int:
    """Returns how many objects an annotation without image has; 0 where it cannot be read."""
    try:
        return len(list_of(json_object(archive, file), "objects", file=file.name))
    except DatasetError:
        return 0


def _images(archive: Archive, projects: _Projects) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        folder = file.folder.rpartition("/")[0]
        found = _find_image(archive, folder, file)
        objects_lost = 0 if found.image is not None else _object_count(archive, file)
        image = counted_image(archive, file, found, f"no such file in {folder}/img", objects=objects_lost)
        if image is None:
            continue
        with archive.skipping_unreadable(file):
            document = json_object(archive, file)
            project = projects.of(folder)
            titles, size = projects.titles(project), document.get("size")
            objects = list_of(document, "objects", file=file.name)
            parse = partial(_box, archive, file, titles)
            yield AnnotatedImage(
                image,
                file.name,
                _dataset(folder, project),
                parse_boxes(archive, file, enumerate(objects), parse),
                size=positive_size(size.get("width"), size.get("height")) if isinstance(size, dict) else None,
                tags=_tags(document.get("tags")),
            )


def _find_image(archive: Archive, folder: str, file: Member) -> Match:
    """Returns `img/<name>` of `ann/<name>.json`, else the one image of this stem that has no annotation of its own.

    Exports of 2018 left the image's suffix out of the annotation's name.
    """
    name, images = file.base[: -len(".json")], "/".join(part for part in (folder, "img") if part)
    if (image := archive.members.get(f"{images}/{name}")) is not None:
        return Match(name, image)
    has_suffix = name.lower().endswith(IMAGE_SUFFIXES)
    stem = PurePosixPath(name).stem if has_suffix else name
    alike = archive.members.by_stem(stem, IMAGE_SUFFIXES, folders=(images,))
    alike = [image for image in alike if archive.members.get(f"{file.folder}/{image.base}.json") is None]
    alike = [image for image in alike if PurePosixPath(image.base).stem == stem] or alike
    if len(alike) != 1:
        return Match(name, others=tuple(alike))
    return Match(name if has_suffix else stem + PurePosixPath(alike[0].base).suffix, alike[0])


def _dataset(folder: str, project: str) -> str:
    """Returns the dataset's path in its project; nested datasets are in folders `datasets` of their parents."""
    inside = folder[len(project) :].strip("/") if project else folder
    return "/".join(part for part in inside.split("/") if part != "datasets") or folder


def _tags(tags: Any) -> tuple[str, ...]:
    """Returns the names of an image's tags, which are objects today and were plain strings in old exports."""
    if not isinstance(tags, list):
        return ()
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return tuple(name for name in names if isinstance(name, str))


def _box(archive: Archive, file: Member, titles: dict[Any, str], item: Any, index: int) -> LabelledBox:
    if not isinstance(item, dict):
        raise InvalidValue(f"{kind_of(item)} where an object is needed")
    label = _label(titles, item)
    edges, geometry = box_edges(item, max_pixels=archive.limits.picture_pixels)
    if geometry != RECTANGLE:
        count_around(archive, file, index, f"the box around its {geometry}")
    return LabelledBox(label, *edges, number=index)


def _label(titles: dict[Any, str], item: dict[str, Any]) -> str:
    label = item.get("classTitle")
    if label is None:
        label = titles.get(id_of(item.get("classId")))
    if not isinstance(label, str):
        where = "its classId is not in meta.json" if titles else "there is no meta.json that names its classId"
        raise InvalidValue(f"no classTitle, and {where}")
    return label
