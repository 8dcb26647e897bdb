"""YOLO: one text file for each image, with a line `class x y width height` for each object, relative to the image.

Class names come from `data.yaml` (Ultralytics, Roboflow), `classes.txt` (labelImg) or `obj.names` (Darknet). Lines with
more coordinates are polygons; the box around one is taken.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import counted_image, match_annotation
from atoll_stages.convert.readers.parsing import annotation_text, invalid, parse_boxes
from atoll_stages.convert.readers.values import InvalidValue, number_text

_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")
_MAX_YAML = 2**20
# A share this far outside the image is not a rounding error: the numbers are pixels.
_MAX_OUTSIDE = 0.5


class YoloReader(Reader):
    format = DatasetFormat.YOLO
    layout = "data.yaml, classes.txt or obj.names, and a .txt for each picture"

    def detects(self, archive: Archive) -> bool:
        return _names_file(archive) is not None

    def read(self, archive: Archive) -> Annotations:
        file = _names_file(archive)
        if file is None:
            raise invalid(archive.name, f"has no data.yaml with names, nor {', '.join(_NAME_LISTS)}")
        names = _yaml_names(archive, file) if _is_yaml(file) else _listed_names(archive, file)
        archive.check_class_count(file, len(names))
        return Annotations(tuple(names.values()), _images(archive, names))


def _names_file(archive: Archive) -> Member | None:
    """Returns the file with the names of the classes."""
    for file in archive.files(".yaml", ".yml"):
        if file.size <= _MAX_YAML and b"names" in file.path.read_bytes():
            return file
    return next((file for base in _NAME_LISTS for file in archive.members.by_base(base)), None)


def _is_yaml(file: Member) -> bool:
    return file.base.lower().endswith((".yaml", ".yml"))


def _yaml_names(archive: Archive, file: Member) -> dict[int, str]:
    """Returns `names` of a data.yaml, which is a list, or a map from number to name."""
    document = _load_yaml(annotation_text(archive, file), file)
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise invalid(file.name, "key names must be a list of names, or a map from number to name")
    # YAML reads a class `1` or `yes` as number or boolean.
    return {key: str(name) for key, name in names.items()}


def _load_yaml(text: str, file: Member) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses aliases, with which a small file becomes a huge document."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    "aliases are not allowed",
                    self.peek_event().start_mark,  # type: ignore[no-untyped-call]
                )
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1} col {mark.column + 1}: " if mark else ""
        raise invalid(file.name, f"{where}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(file.name, f"no YAML: {shown(str(error))}") from None


def _listed_names(archive: Archive, file: Member) -> dict[int, str]:
    lines = annotation_text(archive, file).rstrip().splitlines()
    return {number: line.strip() for number, line in enumerate(lines)}


def _images(archive: Archive, names: dict[int, str]) -> Iterator[AnnotatedImage]:
    for file in archive.files(".txt"):
        if file.base in _NAME_LISTS:
            continue
        found = match_annotation(archive.members, file)
        # Outside a folder of labels, a text file without picture is a README or a list of files.
        if found.image is None and not found.others and "labels" not in PurePosixPath(file.folder).parts:
            continue
        if (image := counted_image(archive, file, found, "no picture of this name is in the archive")) is None:
            continue
        with archive.skipping_unreadable(file):
            lines = annotation_text(archive, file).splitlines()
            objects = ((index, line) for index, line in enumerate(lines) if line.split())
            boxes = parse_boxes(archive, file, objects, partial(_box, names))
            dataset = "/".join(name for name in file.folder.split("/") if name != "labels")
            yield AnnotatedImage(image, file.name, dataset, boxes, relative=True)


def _box(names: dict[int, str], line: str, index: int) -> LabelledBox:
    try:
        return _parse_line(names, line.split(), index)
    except InvalidValue as error:
        raise InvalidValue(f"line {index + 1}: {error}") from None


def _parse_line(names: dict[int, str], fields: list[str], index: int) -> LabelledBox:
    if not (len(fields) == 5 or (len(fields) >= 7 and len(fields) % 2)):
        raise InvalidValue(f"{len(fields)} fields; a box has 5, a polygon an odd number from 7")
    if not fields[0].isdigit() or len(fields[0]) > 6 or int(fields[0]) not in names:
        raise InvalidValue(f"class {shown(fields[0], 40)} is not one of the {len(names)} named")
    values = [number_text(field) for field in fields[1:]]
    if any(not -_MAX_OUTSIDE <= value <= 1 + _MAX_OUTSIDE for value in values):
        raise InvalidValue("a number is no share of the picture (0…1); YOLO counts no pixels")
    if len(values) == 4:
        x, y, width, height = values
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        edges = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    return LabelledBox(names[int(fields[0])], *edges, number=index)
