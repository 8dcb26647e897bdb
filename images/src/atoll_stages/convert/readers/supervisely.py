"""Supervisely: one JSON for each image in `<dataset>/ann`, images in `<dataset>/img`.

Classes are in the `meta.json` of a project. An object has one of many geometries; the box around it is taken.
"""

import base64
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.images import opened
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.problems import Kind
from atoll_stages.convert.readers.base import (
    IMAGE_SUFFIXES,
    AnnotatedImage,
    Annotations,
    Archive,
    LabelledBox,
    Reader,
)
from atoll_stages.convert.readers.parsing import (
    InvalidValue,
    NoBox,
    invalid,
    json_object,
    kind_of,
    list_of,
    number,
    parse_boxes,
    positive_size,
)

Edges = tuple[float, float, float, float]

_WITHOUT_AREA = frozenset({"line", "polyline", "point", "graph", "point_3d", "keypoints"})


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
        if PurePosixPath(file.folder).name == "ann" and not file.name.startswith("__MACOSX/"):
            yield file


class _Projects:
    """The class titles of an archive's projects, from their `meta.json` files, in order."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._titles: dict[str, dict[Any, str]] = {}
        for member in archive.members.with_suffix(".json"):
            if member.base == "meta.json" and PurePosixPath(member.folder).name not in ("ann", "meta", "img_info"):
                self._titles[member.folder] = self._read(member)

    def classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(title for titles in self._titles.values() for title in titles.values()))

    def of(self, folder: str) -> str:
        """Returns the project that contains `folder`: the nearest parent with a meta.json, else the top folder."""
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
        titles: dict[Any, str] = {}
        for index, item in enumerate(list_of(json_object(self._archive, file), "classes", file=file.name)):
            if not isinstance(item, dict) or not isinstance(item.get("title"), str):
                raise invalid(file.name, f"class {index} has no title")
            key = item.get("id")
            titles[key if isinstance(key, int) and key not in titles else f"#{index}"] = item["title"]
            self._archive.check_class_count(file, len(titles))
        return titles


def _images(archive: Archive, projects: _Projects) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        folder = str(PurePosixPath(file.folder).parent)
        folder = "" if folder == "." else folder
        image = _find_image(archive, folder, file)
        if image is None:
            archive.skip_missing_image(file, f"no such file in {folder}/img")
            continue
        with archive.skipping_unreadable(file):
            document = json_object(archive, file)
            project = projects.of(folder)
            titles, size = projects.titles(project), document.get("size")
            objects = list_of(document, "objects", file=file.name)
            parse = partial(_box, titles, archive.limits.picture_pixels)
            yield AnnotatedImage(
                image,
                file.name,
                _dataset(folder, project),
                parse_boxes(archive, file, enumerate(objects), parse),
                size=positive_size(size.get("width"), size.get("height")) if isinstance(size, dict) else None,
                tags=_tags(document.get("tags")),
            )


def _find_image(archive: Archive, folder: str, file: Member) -> Member | None:
    """Returns `img/<name>` of `ann/<name>.json`; exports of 2018 left the image's suffix out of the name."""
    stem = "/".join(part for part in (folder, "img", file.base.removesuffix(".json")) if part)
    candidates = (stem, *(stem + suffix for suffix in IMAGE_SUFFIXES))
    return next((found for name in candidates if (found := archive.members.get(name))), None)


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


def _box(titles: dict[Any, str], max_pixels: int, item: Any, index: int) -> LabelledBox:
    if not isinstance(item, dict):
        raise InvalidValue(f"{kind_of(item)} where an object is needed")
    label = _label(titles, item)
    return LabelledBox(label, *box_edges(item, max_pixels=max_pixels), number=index)


def _label(titles: dict[Any, str], item: dict[str, Any]) -> str:
    label = item.get("classTitle")
    if label is None and isinstance(item.get("classId"), int):
        label = titles.get(item["classId"])
    if not isinstance(label, str):
        raise InvalidValue("no classTitle, and its classId is not in meta.json")
    return label


class NoArea(NoBox):
    """The geometry is a point or a line."""

    kind = Kind.GEOMETRY_WITHOUT_AREA


class UnknownGeometry(NoBox):
    """Atoll does not know the geometry."""

    kind = Kind.GEOMETRY_UNKNOWN


def box_edges(item: dict[str, Any], *, max_pixels: int) -> Edges:
    """Returns (left, top, right, bottom) around an object; `max_pixels` is the limit for the mask of a bitmap.

    Raises:
        NoArea, UnknownGeometry: this geometry has no box.
        InvalidValue: the geometry's values are not what its type requires.
    """
    geometry = item.get("geometryType") or _inferred(item)
    if not isinstance(geometry, str) or geometry not in (_WITHOUT_AREA | _SHAPES.keys()):
        raise UnknownGeometry(f"geometry {shown(str(geometry), 40)}")
    if geometry in _WITHOUT_AREA:
        raise NoArea(f"a {geometry} has no area")
    return _SHAPES[geometry](item, max_pixels)


def _inferred(item: dict[str, Any]) -> str:
    """Returns the geometry of an object in exports before 2019, which do not name it."""
    if item.get("bitmap"):
        return "bitmap"
    return "rectangle" if len(_exterior(item.get("points"))) == 2 else "polygon"


def _rectangle(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) != 2:
        raise InvalidValue(f"a rectangle has 2 points, this one {len(points)}")
    return _around(points)


def _polygon(item: dict[str, Any], _: int) -> Edges:
    points = _exterior(item.get("points"))
    if len(points) < 3:
        raise InvalidValue(f"a polygon has at least 3 points, this one {len(points)}")
    return _around(points)


def _multipolygon(item: dict[str, Any], _: int) -> Edges:
    parts = item.get("parts")
    if not isinstance(parts, list) or not parts:
        raise InvalidValue("a multipolygon without parts")
    return _around([point for part in parts for point in _exterior(part)])


def _cuboid(item: dict[str, Any], _: int) -> Edges:
    points = item.get("points")
    if not isinstance(points, list):
        raise InvalidValue("a cuboid without a list of points")
    return _around(points)


def _bitmap(item: dict[str, Any], max_pixels: int) -> Edges:
    bitmap = item.get("bitmap")
    if not isinstance(bitmap, dict) or not isinstance(bitmap.get("data"), str):
        raise InvalidValue("a bitmap without data")
    origin = bitmap.get("origin")
    if not isinstance(origin, list) or len(origin) != 2:
        raise InvalidValue("a bitmap without origin [x, y]")
    left, top = number(origin[0]), number(origin[1])
    inner = _mask_edges(bitmap["data"], max_pixels)
    return left + inner[0], top + inner[1], left + inner[2], top + inner[3]


def _mask_edges(data: str, max_pixels: int) -> Edges:
    """Returns the tight box of a mask: base64 of a PNG, mostly deflated once more; its alpha or non-zero pixels."""
    try:
        png = _unpacked(base64.b64decode(data, validate=True), limit=max_pixels)
        with opened(png, ("PNG",)) as mask:
            if mask.width * mask.height > max_pixels:
                raise InvalidValue(f"a mask of {mask.width}×{mask.height}, limit {max_pixels} pixels")
            has_alpha = "A" in mask.getbands() or "transparency" in mask.info
            channel = mask.convert("RGBA").getchannel("A") if has_alpha else mask.convert("L")
            found = channel.getbbox()
    except InvalidValue:
        raise
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error, EOFError) as error:
        raise InvalidValue(f"the bitmap cannot be read: {error}") from None
    if found is None:
        raise InvalidValue("the bitmap is empty")
    return found


def _unpacked(data: bytes, *, limit: int) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    inflater = zlib.decompressobj()
    png = inflater.decompress(data, limit)
    if inflater.unconsumed_tail:
        raise InvalidValue(f"the bitmap expands past {limit} bytes")
    return png


def _exterior(points: Any) -> list[Any]:
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if not isinstance(exterior, list):
        raise InvalidValue(f"points.exterior must be a list, not {kind_of(exterior)}")
    return exterior


def _around(points: Iterable[Any]) -> Edges:
    """Returns the smallest and largest x and y of points in any order."""
    xs, ys = [], []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise InvalidValue(f"a point is [x, y], not {shown(repr(point), 40)}")
        xs.append(number(point[0]))
        ys.append(number(point[1]))
    if not xs:
        raise InvalidValue("no points")
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
