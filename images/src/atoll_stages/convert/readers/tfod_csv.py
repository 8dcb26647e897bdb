"""TensorFlow Object Detection CSV: one row for each object, as Axon took it and Roboflow exports it.

`<split>/_annotations.csv` beside its images, at the archive's root or below one folder; the seed's own `train.csv`
and `eval.csv` have the same columns.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll_contract.archive.extract import Member
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import dataset_of, named_image
from atoll_stages.convert.readers.parsing import (
    InvalidValue,
    annotation_text,
    invalid,
    number_text,
    positive_size,
)

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_HEAD = 4096


class TfodCsvReader(Reader):
    format = DatasetFormat.TFOD_CSV
    layout = "_annotations.csv"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        return Annotations((), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    """Yields the CSV files whose first line has all columns."""
    for file in archive.files(".csv"):
        with file.path.open("rb") as stream:
            head = stream.readline(_HEAD).decode("utf-8-sig", "replace")
        if set(COLUMNS) <= {name.strip() for name in head.split(",")}:
            yield file


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        dataset = dataset_of(file)
        for name, entry in _entries(archive, file).items():
            if (image := named_image(archive, name, file)) is not None:
                yield AnnotatedImage(image, file.name, dataset, tuple(entry.boxes), entry.size)


@dataclass
class _Entry:
    """What the rows of one image say."""

    size: tuple[int, int] | None
    boxes: list[LabelledBox] = field(default_factory=list)


def _entries(archive: Archive, file: Member) -> dict[str, _Entry]:
    """Returns the rows of a file by image name, in order of first appearance."""
    rows = csv.reader(io.StringIO(annotation_text(archive, file), newline=""), strict=True)
    entries: dict[str, _Entry] = {}
    try:
        columns = {name.strip(): index for index, name in enumerate(next(rows))}
        for number, row in enumerate(rows):
            if row:
                try:
                    _add_row(entries, {name: row[at : at + 1] for name, at in columns.items()}, number)
                except InvalidValue as error:
                    archive.drop_object(error.kind, file, number, f"row {number + 2}: {error}")
    except csv.Error as error:
        raise invalid(file.name, f"line {rows.line_num}: {error}") from None
    return entries


def _add_row(entries: dict[str, _Entry], row: dict[str, list[str]], number: int) -> None:
    """Adds the object of a row; `number` counts rows below the heading from 0."""
    values = {name: _cell(row, name) for name in COLUMNS}
    xmin, ymin, xmax, ymax = (number_text(values[name]) for name in COLUMNS[4:])
    size = positive_size(*(_size_number(values[name]) for name in ("width", "height")))
    entry = entries.setdefault(values["filename"], _Entry(size))
    entry.boxes.append(LabelledBox(values["class"], xmin, ymin, xmax, ymax, number=number))


def _cell(row: dict[str, list[str]], name: str) -> str:
    if not row[name]:
        raise InvalidValue(f"no {name}")
    return row[name][0].strip()


def _size_number(text: str) -> float:
    """Returns a number, or 0 for other text: the seed did not use these columns, so they may hold anything."""
    try:
        return number_text(text)
    except InvalidValue:
        return 0
