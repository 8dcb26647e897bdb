"""Supervisely "json + images" exports: `<project>/<dataset>/{img,ann}/`, datasets nested at will.

Newer exports lay `img_info/`, `meta/` and masks beside them; only files directly in a folder `ann` are read.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive import Member
from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_stages.convert.example import PICTURE_SUFFIXES, Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.supervisely_shapes import NoArea, UnknownGeometry, edges
from atoll_stages.convert.readers.values import ValueFault, invalid, json_object, kind_of, list_of, positive_size

_META = "meta.json"


def detects(archive: Archive) -> bool:
    """Whether an annotation lies in a folder `ann`."""
    return next(_annotations(archive), None) is not None


def read(archive: Archive) -> Reading:
    projects = _Projects(archive)
    return Reading(classes=projects.classes(), examples=_examples(archive, projects))


def _annotations(archive: Archive) -> Iterator[Member]:
    for member in archive.members.with_suffix(".json"):
        if PurePosixPath(member.folder).name == "ann" and not _is_litter(member):
            yield member


def _is_litter(member: Member) -> bool:
    """Resource forks that macOS packs beside every file."""
    return member.base.startswith("._") or member.name.startswith("__MACOSX/")


class _Projects:
    """The `meta.json` files of an archive: class titles by project, in their order."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._titles: dict[str, dict[Any, str]] = {}
        for member in archive.members.with_suffix(".json"):
            if member.base == _META and PurePosixPath(member.folder).name not in ("ann", "meta", "img_info"):
                self._titles[member.folder] = self._read(member)

    def classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(title for titles in self._titles.values() for title in titles.values()))

    def of(self, folder: str) -> str:
        """The project that holds `folder`: the nearest folder upwards with a meta.json, else the top one."""
        path = PurePosixPath(folder)
        for parent in (path, *path.parents):
            name = "" if str(parent) == "." else str(parent)
            if name in self._titles:
                return name
        return path.parts[0] if len(path.parts) > 1 else ""

    def titles(self, project: str) -> dict[Any, str]:
        return self._titles.get(project, {})

    def _read(self, member: Member) -> dict[Any, str]:
        """Titles by class id, or by place where the export has no ids."""
        titles: dict[Any, str] = {}
        for place, item in enumerate(list_of(json_object(self._archive, member), "classes", file=member.name)):
            if not isinstance(item, dict) or not isinstance(item.get("title"), str):
                raise invalid(member.name, f"class {place} has no title")
            key = item.get("id")
            titles[key if isinstance(key, int) and key not in titles else f"#{place}"] = item["title"]
            if len(titles) > self._archive.limits.classes:
                raise DatasetError(
                    Reason.DATASET_TOO_LARGE,
                    f"{shown(member.name)} has more than {self._archive.limits.classes} classes",
                )
        return titles


def _examples(archive: Archive, projects: _Projects) -> Iterator[Example]:
    for member in _annotations(archive):
        folder = str(PurePosixPath(member.folder).parent)
        folder = "" if folder == "." else folder
        picture = _picture(archive, folder, member)
        if picture is None:
            archive.problems.add(
                Kind.PICTURE_MISSING, Action.SKIPPED, file=member.name, detail=f"no such file in {folder}/img"
            )
            continue
        try:
            document = json_object(archive, member)
            yield _example(archive, projects, document, member=member, picture=picture, folder=folder)
        except DatasetError as error:
            if error.reason is not Reason.ANNOTATION_INVALID:
                raise
            archive.problems.add(Kind.ANNOTATION_UNREADABLE, Action.SKIPPED, file=member.name, detail=error.message)


def _picture(archive: Archive, folder: str, annotation: Member) -> Member | None:
    """`img/<name>` of `ann/<name>.json`; exports of 2018 left the picture's suffix out of the name."""
    stem = "/".join(part for part in (folder, "img", annotation.base.removesuffix(".json")) if part)
    candidates = (stem, *(stem + suffix for suffix in PICTURE_SUFFIXES))
    return next((found for name in candidates if (found := archive.members.get(name))), None)


def _example(
    archive: Archive,
    projects: _Projects,
    document: dict[str, Any],
    *,
    member: Member,
    picture: Member,
    folder: str,
) -> Example:
    project = projects.of(folder)
    size = document.get("size")
    objects = list_of(document, "objects", file=member.name)
    titles = projects.titles(project)
    boxes = (_box(archive, titles, item, place, file=member.name) for place, item in enumerate(objects))
    return Example(
        picture=picture,
        annotation=member.name,
        dataset=_dataset(folder, project),
        boxes=tuple(box for box in boxes if box is not None),
        size=positive_size(size.get("width"), size.get("height")) if isinstance(size, dict) else None,
        tags=_tags(document.get("tags")),
    )


def _dataset(folder: str, project: str) -> str:
    """The dataset's path in its project; nested ones lie in folders `datasets` of their parents."""
    inside = folder[len(project) :].strip("/") if project else folder
    return "/".join(part for part in inside.split("/") if part != "datasets") or folder


def _tags(tags: Any) -> tuple[str, ...]:
    """Names of the picture's tags: objects today, plain strings in old exports."""
    if not isinstance(tags, list):
        return ()
    names = (tag.get("name") if isinstance(tag, dict) else tag for tag in tags)
    return tuple(name for name in names if isinstance(name, str))


def _box(archive: Archive, titles: dict[Any, str], item: Any, place: int, *, file: str) -> LabelledBox | None:
    """The box around one object, or None with a problem counted."""
    problems = archive.problems
    try:
        if not isinstance(item, dict):
            raise ValueFault(f"{kind_of(item)} where an object is needed")
        label = _label(titles, item)
        left, top, right, bottom = edges(item, pixels=archive.limits.picture_pixels)
    except NoArea as error:
        problems.add(Kind.GEOMETRY_WITHOUT_AREA, Action.DROPPED, file=file, number=place, detail=str(error))
    except UnknownGeometry as error:
        problems.add(Kind.GEOMETRY_UNKNOWN, Action.DROPPED, file=file, number=place, detail=str(error))
    except ValueFault as error:
        problems.add(Kind.BOX_MALFORMED, Action.DROPPED, file=file, number=place, detail=str(error))
    else:
        return LabelledBox(label, left, top, right, bottom, number=place)
    return None


def _label(titles: dict[Any, str], item: dict[str, Any]) -> str:
    label = item.get("classTitle")
    if label is None and isinstance(item.get("classId"), int):
        label = titles.get(item["classId"])
    if not isinstance(label, str):
        raise ValueFault("no classTitle, and its classId is not in meta.json")
    return label
