"""The box around each geometry of a Supervisely object."""

import base64
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.images import opened
from atoll_stages.convert.example import PICTURE_SUFFIXES, Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.parsing import (
    ValueFault,
    invalid,
    json_object,
    kind_of,
    list_of,
    number,
    positive_size,
)

Edges = tuple[float, float, float, float]

_WITHOUT_AREA = frozenset({"line", "polyline", "point", "graph", "point_3d", "keypoints"})


class NoArea(ValueError):
    """The geometry marks a place or a line; no box follows from it."""


class UnknownGeometry(ValueError):
    """A geometry that Atoll does not know."""


def edges(item: dict[str, Any], *, pixels: int) -> Edges:
    """(left, top, right, bottom) around an object; `pixels` bounds the mask of a bitmap.

    Raises:
        NoArea, UnknownGeometry: no box follows from this geometry.
        ValueFault: the geometry's values are not what its type asks for.
    """
    geometry = item.get("geometryType") or _inferred(item)
    if not isinstance(geometry, str) or geometry not in (_WITHOUT_AREA | _SHAPES.keys()):
        raise UnknownGeometry(f"geometry {shown(str(geometry), 40)}")
    if geometry in _WITHOUT_AREA:
        raise NoArea(f"a {geometry} has no area")
    return _SHAPES[geometry](item, pixels)


def _inferred(item: dict[str, Any]) -> str:
    """The geometry of exports that do not name it (before 2019)."""
    if item.get("bitmap"):
        return "bitmap"
    return "rectangle" if len(_exterior(item.get("points"))) == 2 else "polygon"


def _rectangle(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) != 2:
        raise ValueFault(f"a rectangle has 2 points, this one {len(points)}")
    return _around(points)


def _polygon(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) < 3:
        raise ValueFault(f"a polygon has at least 3 points, this one {len(points)}")
    return _around(points)


def _multipolygon(item: dict[str, Any], _: int) -> Edges:
    parts = item.get("parts")
    if not isinstance(parts, list) or not parts:
        raise ValueFault("a multipolygon without parts")
    return _around([point for part in parts for point in _exterior(part)])


def _cuboid(item: dict[str, Any], _: int) -> Edges:
    points = item.get("points")
    if not isinstance(points, list):
        raise ValueFault("a cuboid without a list of points")
    return _around(points)


def _bitmap(item: dict[str, Any], pixels: int) -> Edges:
    bitmap = item.get("bitmap")
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("data"), str):
        raise ValueFault("a bitmap without data")
    origin = bitmap.get("origin")
    if not isinstance(origin, list) or len(origin) != 2:
        raise ValueFault("a bitmap without origin [x, y]")
    left, top = number(origin[0]), number(origin[1])
    inner = _mask_edges(bitmap["data"], pixels)
    return left + inner[0], top + inner[1], left + inner[2], top + inner[3]


def _mask_edges(data: str, pixels: int) -> Edges:
    """The tight box of a mask: base64 of a PNG, mostly deflated once more; alpha or non-zero pixels count."""
    try:
        png = _unpacked(base64.b64decode(data, validate=True), limit=pixels)
        with opened(png, ("PNG",)) as mask:
            if mask.width * mask.height > pixels:
                raise ValueFault(f"a mask of {mask.width}×{mask.height}, limit {pixels} pixels")
            has_alpha = "A" in mask.getbands() or "transparency" in mask.info
            channel = mask.convert("RGBA").getchannel("A") if has_alpha else mask.convert("L")
            found = channel.getbbox()
    except ValueFault:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error, EOFError) as error:
        raise ValueFault(f"the bitmap cannot be read: {error}") from None
    if found is None:
        raise ValueFault("the bitmap is empty")
    return found


def _unpacked(data: bytes, *, limit: int) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    inflater = zlib.decompressobj()
    png = inflater.decompress(data, limit)
    if inflater.unconsumed_tail:
        raise ValueFault(f"the bitmap expands past {limit} bytes")
    return png


def _exterior(points: Any) -> list[Any]:
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if not isinstance(exterior, list):
        raise ValueFault(f"points.exterior must be a list, not {kind_of(exterior)}")
    return exterior


def _around(points: Iterable[Any]) -> Edges:
    """Least and greatest x and y; any order of the corners is fine."""
    xs, ys = [], []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueFault(f"a point is [x, y], not {shown(repr(point), 40)}")
        xs.append(number(point[0]))
        ys.append(number(point[1]))
    if not xs:
        raise ValueFault("no points")
    return min(xs), min(ys), max(xs), max(ys)


_SHAPES: dict[str, Callable[[dict[str, Any], int], Edges]] = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "multipolygon": _multipolygon,
    "bitmap": _bitmap,
    "alpha_mask": _bitmap,
    "cuboid": _cuboid,
    "cuboid_2d": _cuboid,
}


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
