"""YOLO: one text file for each picture, a line `class x y width height` for each object, shares of the picture.

Class names come from `data.yaml` (Ultralytics, Roboflow), `classes.txt` (labelImg) or `obj.names` (Darknet). Lines
with more coordinates are polygons, and become the box around them.
"""

import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example import Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.parsing import ValueFault, annotation_text, invalid, number_text, picture_by_stem

_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")
_MAX_YAML = 2**20
# A share this far beyond the picture is no rounding: the numbers are pixels.
_FAR_OUT = 0.5


def detects(archive: Archive) -> bool:
    """Whether the archive names its classes in one of YOLO's ways."""
    return _names_file(archive) is not None


def read(archive: Archive) -> Reading:
    member = _names_file(archive)
    if member is None:
        raise invalid(archive.name, f"has no data.yaml with names, nor {', '.join(_NAME_LISTS)}")
    names = _yaml_names(archive, member) if _is_yaml(member) else _listed_names(archive, member)
    if len(names) > archive.limits.classes:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE, f"{shown(member.name)} has more than {archive.limits.classes} classes"
        )
    return Reading(tuple(names.values()), _examples(archive, names))


def _is_yaml(member: Member) -> bool:
    return member.base.lower().endswith((".yaml", ".yml"))


def _names_file(archive: Archive) -> Member | None:
    for member in archive.members.with_suffix(".yaml", ".yml"):
        if not member.base.startswith("._") and member.size <= _MAX_YAML and b"names" in member.path.read_bytes():
            return member
    found = (member for base in _NAME_LISTS for member in archive.members.by_base(base))
    return next(found, None)


def _yaml_names(archive: Archive, member: Member) -> dict[int, str]:
    """`names` of a data.yaml: a list, or a map from number to name."""
    document = _load_yaml(annotation_text(archive, member), member)
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise invalid(member.name, "key names must be a list of names, or a map from number to name")
    # YAML reads a class `1` or `yes` as number or boolean.
    return {key: str(name) for key, name in names.items()}


def _load_yaml(text: str, member: Member) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe YAML without aliases, by which a small file becomes a huge document."""

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
        raise invalid(member.name, f"{where}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(member.name, f"no YAML: {shown(str(error))}") from None


def _listed_names(archive: Archive, member: Member) -> dict[int, str]:
    lines = annotation_text(archive, member).rstrip().splitlines()
    return {number: line.strip() for number, line in enumerate(lines)}


def _examples(archive: Archive, names: dict[int, str]) -> Iterator[Example]:
    for member in archive.members.with_suffix(".txt"):
        if member.base.startswith("._") or member.base in _NAME_LISTS:
            continue
        picture = _picture(archive, member)
        if picture is None:
            # A text file that stands with no labels is a README or a list of files.
            if "labels" in PurePosixPath(member.folder).parts:
                detail = "no picture of this name in images"
                archive.problems.add(Kind.PICTURE_MISSING, Action.SKIPPED, file=member.name, detail=detail)
            continue
        try:
            text = annotation_text(archive, member)
        except DatasetError as error:
            if error.reason is not Reason.ANNOTATION_INVALID:
                raise
            archive.problems.add(Kind.ANNOTATION_UNREADABLE, Action.SKIPPED, file=member.name, detail=error.message)
            continue
        boxes = (
            _box(archive, names, line, place, member) for place, line in enumerate(text.splitlines()) if line.split()
        )
        yield Example(
            picture=picture,
            annotation=member.name,
            dataset=_dataset(member.folder),
            boxes=tuple(box for box in boxes if box is not None),
            relative=True,
        )


def _picture(archive: Archive, member: Member) -> Member | None:
    """The picture beside the labels, or in the folder `images` where theirs says `labels`."""
    parts = list(PurePosixPath(member.folder).parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "labels":
            parts[place] = "images"
            break
    stem = PurePosixPath(member.name).stem
    return picture_by_stem(archive.members, stem, near=posixpath.join(*parts) if parts else "")


def _dataset(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if part != "labels")


def _box(archive: Archive, names: dict[int, str], line: str, place: int, member: Member) -> LabelledBox | None:
    try:
        return _parsed(names, line.split(), place)
    except ValueFault as error:
        archive.problems.add(
            Kind.BOX_MALFORMED, Action.DROPPED, file=member.name, number=place, detail=f"line {place + 1}: {error}"
        )
        return None


def _parsed(names: dict[int, str], fields: list[str], place: int) -> LabelledBox:
    if not (len(fields) == 5 or (len(fields) >= 7 and len(fields) % 2)):
        raise ValueFault(f"{len(fields)} fields; a box has 5, a polygon an odd number from 7")
    if not fields[0].isdigit() or len(fields[0]) > 6 or int(fields[0]) not in names:
        raise ValueFault(f"class {shown(fields[0], 40)} is not one of the {len(names)} named")
    values = [number_text(field) for field in fields[1:]]
    if any(not -_FAR_OUT <= value <= 1 + _FAR_OUT for value in values):
        raise ValueFault("a number is no share of the picture (0…1); YOLO counts no pixels")
    if len(values) == 4:
        x, y, width, height = values
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        edges = (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2]))
    return LabelledBox(names[int(fields[0])], *edges, number=place)
