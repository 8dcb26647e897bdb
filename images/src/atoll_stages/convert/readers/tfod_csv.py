"""CSV with one row for each object, as TensorFlow's tools take it, Axon took it and Roboflow exports it.

`<split>/_annotations.csv` beside its images, at the archive's root or below one folder; the seed's own `train.csv`
and `eval.csv` have the same columns. `csv_dialect` says which other headings and dialects are read.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll_contract.archive.extract import Member
from atoll_contract.convert_spec import DatasetFormat
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.csv_dialect import CsvLayout, csv_head, csv_text, find_layout
from atoll_stages.convert.readers.lookup import dataset_of, named_image
from atoll_stages.convert.readers.parsing import annotation_bytes, invalid
from atoll_stages.convert.readers.values import InvalidValue, number_text, positive_size
from atoll_stages.convert.split_names import split_of_dataset

_HEAD = 4096
# What tools write into the cells of a picture without objects.
_NO_BOX = frozenset(("", "nan", "none", "null", "n/a"))
_NO_CLASS = frozenset(
    (
        "",
        "-1",
        "nan",
        "none",
        "null",
        "n/a",
        "empty",
        "background",
        "__background__",
        "negative",
        "no object",
        "no_object",
    )
)


class TfodCsvReader(Reader):
    format = DatasetFormat.TFOD_CSV
    layout = "_annotations.csv"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        return Annotations((), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[tuple[Member, CsvLayout]]:
    """Yields the tables whose first row has all columns."""
    for file in archive.files(".csv", ".tsv"):
        with file.open() as stream:
            head = stream.read(_HEAD)
        if (layout := find_layout(csv_head(head))) is not None:
            yield file, layout


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    # Those whose name means a split come first, so that `train.csv` beats `all.csv`.
    found = list(_annotation_files(archive))
    for file, layout in sorted(found, key=lambda item: split_of_dataset(dataset_of(item[0])) is None):
        dataset = dataset_of(file)
        for name, entry in _entries(archive, file, layout).items():
            if (image := named_image(archive, name, file, objects=len(entry.boxes))) is not None:
                archive.see_objects(len(entry.boxes))
                yield AnnotatedImage(
                    image,
                    file.name,
                    dataset,
                    tuple(entry.boxes),
                    entry.size,
                    relative=layout.relative,
                    tags=tuple(entry.tags),
                )


@dataclass
class _ImageRows:
    """What the rows of one image say."""

    size: tuple[int, int] | None
    boxes: list[LabelledBox] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def add_tag(self, tag: str) -> None:
        if tag and tag not in self.tags:
            self.tags.append(tag)


def _entries(archive: Archive, file: Member, layout: CsvLayout) -> dict[str, _ImageRows]:
    """Returns the rows of a file by image name, in order of first appearance."""
    try:
        text = csv_text(annotation_bytes(archive, file))
    except UnicodeDecodeError as error:
        raise invalid(file.name, f"byte {error.start}: not UTF-8; save the table as CSV UTF-8") from None
    rows = layout.rows(text)
    entries: dict[str, _ImageRows] = {}
    first = 2 if layout.heading else 1
    line = 0
    try:
        if layout.heading:
            next(rows)
        for number, row in enumerate(rows):
            line = number + first
            if any(cell.strip() for cell in row):
                try:
                    _add_row(entries, _TableRow(row, layout), number)
                except InvalidValue as error:
                    archive.drop_object(error.kind, file, number, f"row {line}: {error}")
    except csv.Error as error:
        raise invalid(file.name, f"row {line + 1}: {error}") from None
    return entries


@dataclass(frozen=True)
class _TableRow:
    cells: list[str]
    layout: CsvLayout

    def text(self, name: str) -> str:
        """Returns a cell; an empty text for one that a short row lacks."""
        at = self.layout.columns[name]
        return self.cells[at].strip() if at < len(self.cells) else ""

    def number(self, name: str) -> float:
        try:
            return number_text(self.text(name))
        except InvalidValue as error:
            raise InvalidValue(f"{name}: {error}") from None

    def size(self) -> tuple[int, int] | None:
        """Returns the image's size; None for cells that hold anything else, as the seed did not use them."""
        if not {"width", "height"} <= self.layout.columns.keys():
            return None
        return positive_size(self.text("width"), self.text("height"))

    def split(self) -> str:
        """Returns the name of the split that the row gives its image; an empty text where it gives none."""
        return self.text("split") if "split" in self.layout.columns else ""

    def is_negative(self) -> bool:
        """Returns whether the row says that the image has no objects."""
        return self.text("class").lower() in _NO_CLASS and all(map(self._is_empty, self.layout.box))

    def _is_empty(self, name: str) -> bool:
        """Returns whether a cell of the box holds nothing, 0 or -1."""
        return self.text(name).lower() in _NO_BOX or self.number(name) in (-1, 0)


def _add_row(entries: dict[str, _ImageRows], row: _TableRow, number: int) -> None:
    """Adds the object of a row; `number` counts rows below the heading from 0."""
    if any(cell.strip() for cell in row.cells[row.layout.width :]):
        raise InvalidValue(f"{len(row.cells)} cells, the first row has {row.layout.width}")
    name = row.text("filename")
    if not name:
        raise InvalidValue("no filename")
    if row.is_negative():
        entries.setdefault(name, _ImageRows(row.size())).add_tag(row.split())
        return
    left, top, right, bottom = (row.number(column) for column in row.layout.box)
    if "boxwidth" in row.layout.box:
        right, bottom = left + right, top + bottom
    label = row.text("class")
    if not label:
        raise InvalidValue("no class")
    entry = entries.setdefault(name, _ImageRows(row.size()))
    entry.add_tag(row.split())
    entry.boxes.append(LabelledBox(label, left, top, right, bottom, number=number))
