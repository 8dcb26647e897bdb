"""TensorFlow Object Detection CSV: one row for each object, as Axon took it and Roboflow exports it.

`<part>/_annotations.csv` beside its pictures, at the archive's root or below one folder; the seed's own `train.csv`
and `eval.csv` have the same columns.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_stages.convert.example import Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.parsing import (
    ValueFault,
    annotation_text,
    dataset_of,
    invalid,
    number_text,
    picture_by_name,
    positive_size,
)

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_HEAD = 4096


def detects(archive: Archive) -> bool:
    """Whether a CSV file has the columns."""
    return next(_files(archive), None) is not None


def read(archive: Archive) -> Reading:
    return Reading((), _examples(archive))


def _files(archive: Archive) -> Iterator[Member]:
    for member in archive.members.with_suffix(".csv"):
        if member.base.startswith("._"):
            continue
        with member.path.open("rb") as file:
            head = file.readline(_HEAD).decode("utf-8-sig", "replace")
        if set(COLUMNS) <= {name.strip() for name in head.split(",")}:
            yield member


@dataclass
class _Picture:
    size: tuple[int, int] | None
    boxes: list[LabelledBox] = field(default_factory=list)


def _examples(archive: Archive) -> Iterator[Example]:
    for member in _files(archive):
        dataset = dataset_of(member)
        for name, entry in _pictures(archive, member).items():
            picture = picture_by_name(archive.members, name, near=member.folder)
            if picture is None:
                detail = f"{shown(name)} is not in the archive, or there more than once"
                archive.problems.add(Kind.PICTURE_MISSING, Action.SKIPPED, file=member.name, detail=detail)
                continue
            yield Example(
                picture=picture,
                annotation=member.name,
                dataset=dataset,
                boxes=tuple(entry.boxes),
                size=entry.size,
            )


def _pictures(archive: Archive, member: Member) -> dict[str, _Picture]:
    """The rows of a file by picture, in order of first appearance."""
    rows = csv.reader(io.StringIO(annotation_text(archive, member), newline=""), strict=True)
    found: dict[str, _Picture] = {}
    try:
        columns = {name.strip(): place for place, name in enumerate(next(rows))}
        for number, row in enumerate(rows):
            if row:
                _take(archive, found, {name: row[at : at + 1] for name, at in columns.items()}, number, member)
    except csv.Error as error:
        raise invalid(member.name, f"line {rows.line_num}: {error}") from None
    return found


def _take(archive: Archive, found: dict[str, _Picture], row: dict[str, list[str]], number: int, member: Member) -> None:
    """Add one row; `number` counts objects from 0."""
    try:
        values = {name: _cell(row, name) for name in COLUMNS}
        xmin, ymin, xmax, ymax = (number_text(values[name]) for name in COLUMNS[4:])
        size = positive_size(*(_size_number(values[name]) for name in ("width", "height")))
        entry = found.setdefault(values["filename"], _Picture(size))
        entry.boxes.append(LabelledBox(values["class"], xmin, ymin, xmax, ymax, number=number))
    except ValueFault as error:
        archive.problems.add(
            Kind.BOX_MALFORMED, Action.DROPPED, file=member.name, number=number, detail=f"row {number + 2}: {error}"
        )


def _cell(row: dict[str, list[str]], name: str) -> str:
    if not row[name]:
        raise ValueFault(f"no {name}")
    return row[name][0].strip()


def _size_number(text: str) -> float:
    """The seed never used these columns; what is no number there says nothing."""
    try:
        return number_text(text)
    except ValueFault:
        return 0
