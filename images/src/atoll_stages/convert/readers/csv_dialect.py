"""The dialect and the columns of a CSV with boxes: people's exports differ in both."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from atoll_stages.convert.readers.base import IMAGE_SUFFIXES
from atoll_stages.convert.readers.values import InvalidValue, number_text
from atoll_stages.convert.split_names import split_of_name

# The names that tools give a column, in lower case and without blanks, hyphens and underscores.
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "filename": (
        "filename",
        "file",
        "image",
        "imagename",
        "imagefile",
        "imageid",
        "imagepath",
        "img",
        "path",
        "filepath",
    ),
    "class": ("class", "label", "classname", "labelname", "category", "categoryname"),
    "xmin": ("xmin", "left", "x1", "xtl", "x", "bboxx", "bboxxmin", "bboxleft"),
    "ymin": ("ymin", "top", "y1", "ytl", "y", "bboxy", "bboxymin", "bboxtop"),
    "xmax": ("xmax", "right", "x2", "xbr", "bboxxmax", "bboxright"),
    "ymax": ("ymax", "bottom", "y2", "ybr", "bboxymax", "bboxbottom"),
    "boxwidth": ("boxwidth", "bboxwidth", "bboxw", "w"),
    "boxheight": ("boxheight", "bboxheight", "bboxh", "h"),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
}
_NAMES = {synonym: name for name, synonyms in _SYNONYMS.items() for synonym in synonyms}
_CORNERS, _SIDES = ("xmin", "ymin", "xmax", "ymax"), ("xmin", "ymin", "boxwidth", "boxheight")
# Files without a heading: TensorFlow's columns, those of keras-retinanet, and those of makesense.ai.
_WITHOUT_HEADING: tuple[tuple[str, ...], ...] = (
    ("filename", "width", "height", "class", *_CORNERS),
    ("filename", *_CORNERS, "class"),
    ("class", *_SIDES, "filename", "width", "height"),
)
# The columns of AutoML, Vertex AI and TensorFlow Lite's Model Maker: the corners in shares of the picture, the two
# others empty or there, too. The split may be left out.
_MODEL_MAKER: tuple[str, ...] = ("split", "filename", "class", "xmin", "ymin", "", "", "xmax", "ymax", "", "")
_NO_SPLIT = ("", "unassigned")
# The columns of a table without heading are told by its first row with an object.
_SEARCHED_ROWS = 20
# Open Images' tables have shares of the picture, and codes for classes; they are not read.
_OPEN_IMAGES = {"imageid", "source", "labelname"}
_DELIMITERS = (",", ";", "\t", "|")
_NO_LETTERS = re.compile(r"[\W_]+")
# Excel writes the delimiter into a first line of its own.
_SEP = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


@dataclass(frozen=True)
class CsvLayout:
    """How to read a file: `columns` maps names to positions, `box` names the four columns of the box.

    The box has corners, or a corner and sides (`boxwidth`, `boxheight`), in shares of the picture where it is
    `relative`. `skip` is the length of a line before the heading, `heading` whether there is one, `width` the number of
    columns.
    """

    delimiter: str
    quote: str
    columns: Mapping[str, int]
    box: Sequence[str]
    skip: int
    heading: bool
    width: int
    relative: bool = False

    def rows(self, text: str) -> Iterator[list[str]]:
        """Yields the rows of the file with this text; raises csv.Error where a row is damaged."""
        return _rows(text[self.skip :], self.delimiter, self.quote)


def csv_text(data: bytes) -> str:
    """Returns the text of a CSV in UTF-8 or, as Excel's "Unicode text", in UTF-16; raises UnicodeDecodeError."""
    return data.decode(_encoding(data))


def csv_head(data: bytes) -> str:
    """Returns the text of the first bytes of a CSV, which may end inside of a character."""
    return codecs.getincrementaldecoder(_encoding(data))("replace").decode(data)


def _encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def find_layout(head: str) -> CsvLayout | None:
    """Returns the layout of a CSV that begins with `head`; None where it has no columns for boxes."""
    found = _SEP.match(head)
    skip = found.end() if found else 0
    lines = head[skip:].splitlines()[:_SEARCHED_ROWS]
    quote = "'" if lines and lines[0].lstrip().startswith("'") else '"'
    for delimiter in (found[1],) if found else _DELIMITERS:
        try:
            rows = (next(_rows(line, delimiter, quote), []) for line in lines)
            cells = next(rows, [])
            labelled = next((row for row in chain((cells,), rows) if not _has_image_alone(row)), [])
        except csv.Error:
            continue
        columns = {} if _is_open_images(cells) else _columns(cells)
        if (box := _box_columns(columns)) is not None:
            return CsvLayout(delimiter, quote, columns, box, skip, True, len(cells))
        if names := _names_without_heading(labelled):
            columns = {name: at for at, name in enumerate(names) if name}
            box = _SIDES if "boxwidth" in columns else _CORNERS
            return CsvLayout(delimiter, quote, columns, box, skip, False, len(labelled), relative="" in names)
    return None


def _has_image_alone(cells: Sequence[str]) -> bool:
    """Returns whether a row can be that of a picture without objects, which does not tell what the columns mean."""
    filled = [text for cell in cells if (text := cell.strip())]
    return any(text.lower().endswith(IMAGE_SUFFIXES) for text in filled) and len(filled) <= 2 < len(cells)


def _names_without_heading(cells: Sequence[str]) -> Sequence[str]:
    """Returns the names of the columns of a table without heading that has this row; none where no tool writes it."""
    for names in _WITHOUT_HEADING:
        if _fits(cells, names):
            return names
    for names in (_MODEL_MAKER, _MODEL_MAKER[1:]):
        if _fits(cells, names) and all(0 <= number_text(cells[names.index(edge)]) <= 1 for edge in _CORNERS):
            return names
    return ()


def _rows(text: str, delimiter: str, quote: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)


def _is_open_images(cells: Sequence[str]) -> bool:
    return {_NO_LETTERS.sub("", cell).lower() for cell in cells} >= _OPEN_IMAGES


def _columns(cells: Sequence[str]) -> dict[str, int]:
    """Returns the position of each known column of a heading; of two with one meaning the exact name counts, or the
    first."""
    columns: dict[str, int] = {}
    for at, cell in enumerate(cells):
        plain = _NO_LETTERS.sub("", cell).lower()
        name = _NAMES.get(plain)
        if name is not None and (name not in columns or plain == name):
            columns[name] = at
    if "xmax" not in columns and "boxwidth" not in columns and {"width", "height"} <= columns.keys():
        # Without right and bottom edge, width and height can only be the box's.
        columns["boxwidth"], columns["boxheight"] = columns.pop("width"), columns.pop("height")
    return columns


def _box_columns(columns: Mapping[str, int]) -> Sequence[str] | None:
    for box in (_CORNERS, _SIDES):
        if {"filename", "class", *box} <= columns.keys():
            return box
    return None


def _fits(cells: Sequence[str], names: Sequence[str]) -> bool:
    """Returns whether the cells of a first row are those of a file without heading."""
    if len(cells) != len(names):
        return False
    for cell, name in zip(cells, names, strict=True):
        text = cell.strip()
        if name == "filename":
            fits = text.lower().endswith(IMAGE_SUFFIXES)
        elif name == "split":
            fits = text.lower() in _NO_SPLIT or split_of_name(text) is not None
        elif name == "class":
            fits = not _is_number(text)
        elif not name:
            fits = not text or _is_number(text)
        else:
            fits = _is_number(text)
        if not fits:
            return False
    return True


def _is_number(text: str) -> bool:
    try:
        number_text(text)
    except InvalidValue:
        return False
    return True
