"""The lines of YOLO's label files: what their columns mean, decided over all lines of an export, and their boxes.

A line is `class x y width height`, relative to the picture. Exports with more columns have a confidence or track id
after the box, keypoints after the box, the corners of a turned box, or a polygon.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from atoll_contract.archive.limits import shown
from atoll_stages.convert.readers.shapes import Edges
from atoll_stages.convert.readers.values import InvalidValue, number_text

BOX_COLUMNS = 5
# A share this far outside the image is not a rounding error: the numbers are pixels.
_MAX_OUTSIDE = 0.5
# Keypoints may lie this far outside their box, and corners be rounded so much, in shares of the image.
_TOLERANCE = 0.02
# With so few keypoints a polygon may look like them by chance, but not in so many lines.
_FEW_KEYPOINTS, _ENOUGH_LINES = 2, 3
_RARE = 20
_NUMBER = re.compile(r"[+-]?(?:nan|inf|\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)", re.IGNORECASE)
_MIN_NUMBERS = 3
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+|\d+")


class Shape(Enum):
    """What follows the class in a line."""

    BOX = "a box"
    CORNERS = "the corners of a turned box"
    POLYGON = "a polygon"


@dataclass(frozen=True)
class Columns:
    """The meaning of a line's columns. `unread` describes those after the shape; `length` is the shape's columns."""

    shape: Shape
    length: int
    unread: str = ""


@dataclass
class ColumnSurvey:
    """What all lines with one number of columns have in common."""

    lines: int = 0
    turned_boxes: bool = True
    whole_at_end: bool = True
    largest_at_end: float = 0
    # The pairs (numbers of a keypoint, columns after the keypoints) under which all keypoints lie in their boxes.
    keypoints: set[tuple[int, int]] = field(default_factory=lambda: {(3, 0), (2, 0), (3, 1), (2, 1)})

    def add(self, values: Sequence[float]) -> None:
        """Adds the numbers after the class of a line."""
        self.lines += 1
        self.turned_boxes &= len(values) >= 8 and _is_parallelogram(values[:8])
        self.whole_at_end &= values[-1].is_integer()
        self.largest_at_end = max(self.largest_at_end, values[-1])
        self.keypoints = {pair for pair in self.keypoints if _keypoints_fit(values, *pair)}


class LineColumns:
    """The meaning of each number of columns in an export, from all its lines."""

    def __init__(self, keypoints: tuple[int, int] | None = None) -> None:
        """`keypoints` is the `kpt_shape` of a data.yaml."""
        self._keypoints = keypoints
        self._surveys: dict[int, ColumnSurvey] = {}

    def add(self, values: Sequence[float]) -> None:
        """Adds the numbers after the class of a line."""
        self._surveys.setdefault(len(values) + 1, ColumnSurvey()).add(values)

    def of(self, count: int) -> Columns:
        """Returns what `count` columns mean.

        Raises:
            InvalidValue: they mean nothing.
        """
        found = self._of_keypoints(count) if self._keypoints else self._of_survey(count)
        if found is None:
            expected = "a box has 5, a polygon an odd number from 7"
            if self._keypoints:
                number, size = self._keypoints
                expected = f"a box has 5, one with kpt_shape {[number, size]} has {BOX_COLUMNS + number * size}"
            raise InvalidValue(f"{count} fields; {expected}")
        return found

    def _of_keypoints(self, count: int) -> Columns | None:
        number, size = self._keypoints or (0, 0)
        after = count - BOX_COLUMNS - number * size
        if count in (BOX_COLUMNS, BOX_COLUMNS + 1):
            return _box_and(count)
        return _box_and(count, f"{number} keypoints, as kpt_shape says") if after in (0, 1) else None

    def _of_survey(self, count: int) -> Columns | None:
        survey = self._surveys.get(count, ColumnSurvey())
        others = self._others(count)
        if count in (BOX_COLUMNS, BOX_COLUMNS + 1):
            return _box_and(count)
        # A triangle's last number is a share of the picture, and whole only at its edge.
        is_id = survey.whole_at_end and (survey.largest_at_end > 1 or survey.lines >= _ENOUGH_LINES)
        if count == BOX_COLUMNS + 2 and not others and is_id:
            return _box_and(count, "confidence and track id, as column 7 is whole in every line")
        if count in (9, 10) and survey.turned_boxes:
            return Columns(Shape.CORNERS, 9, _unread(10) if count == 10 else "")
        if not others and (pose := _pose(count, survey)) is not None:
            return pose
        if count >= 7 and count % 2:
            return Columns(Shape.CORNERS if count == 9 and not others else Shape.POLYGON, count)
        # A column after every polygon: the other numbers of columns are then even, too.
        if count >= 8 and not any(other % 2 for other in others):
            return Columns(Shape.POLYGON, count - 1, _unread(count))
        return None

    def _others(self, count: int) -> set[int]:
        """Returns the other numbers of columns from 7 on, without those of so few lines that they are damaged ones."""
        lines = self._surveys[count].lines if count in self._surveys else 0
        found = self._surveys.items()
        return {other for other, survey in found if other > BOX_COLUMNS + 1 and survey.lines * _RARE >= lines} - {count}


def fields_of(line: str) -> list[str]:
    """Returns the fields of a line, between blanks or tabs, commas, or semicolons.

    Raises:
        InvalidValue: one line has two of them.
    """
    parts = line.split()
    separator = next((mark for mark in ";," if mark in line), "")
    if not separator:
        return parts
    if len(parts) >= BOX_COLUMNS and all(_DECIMAL_COMMA.fullmatch(part) for part in parts):
        return [part.replace(",", ".") for part in parts]
    cells = [cell.strip() for cell in line.strip().removesuffix(separator).split(separator)]
    if any(len(cell.split()) > 1 for cell in cells):
        raise InvalidValue(f"the fields are divided by blanks and by {shown(separator)}")
    return [cell.replace(",", ".") for cell in cells]


def class_number(text: str) -> int | None:
    """Returns the number of a class, also where it is written as `1.0` or `1.000e+00`; None for another text."""
    try:
        value = number_text(text)
    except InvalidValue:
        return None
    return int(value) if value.is_integer() and value >= 0 else None


def may_be_label(line: str) -> bool:
    """Returns whether a line has so many numbers that it may be a damaged one of YOLO's, and no words or file names."""
    return sum(_NUMBER.fullmatch(part) is not None for part in re.split(r"[\s,;]+", line)) >= _MIN_NUMBERS


def label_lines(text: str) -> tuple[list[list[float]], int]:
    """Returns the numbers after the class of each line of a label file, and how many lines are none of YOLO's."""
    lines, others = [], 0
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            fields = fields_of(line)
            values = [number_text(text) for text in fields[1:]]
        except InvalidValue:
            values = []
        if len(values) + 1 < BOX_COLUMNS or class_number(fields[0]) is None:
            others += 1
        else:
            lines.append(values)
    return lines, others


def line_edges(names: Mapping[int, str], columns: LineColumns, line: str) -> tuple[str, Edges, Columns]:
    """Returns the class of a line, the edges of its box in shares of the picture, and what its columns mean.

    Raises:
        InvalidValue: the line is none of YOLO's, or its class has no name.
    """
    fields = fields_of(line)
    meaning = columns.of(len(fields))
    number = class_number(fields[0])
    if number is None or number not in names:
        raise InvalidValue(f"class {shown(fields[0], 40)} is not one of the {len(names)} named")
    values = [number_text(field) for field in fields[1:]][: meaning.length - 1]
    if any(not -_MAX_OUTSIDE <= value <= 1 + _MAX_OUTSIDE for value in values):
        raise InvalidValue("a number is no share of the picture (0…1); YOLO counts no pixels")
    if meaning.shape is Shape.BOX:
        x, y, width, height = values
        return names[number], (x - width / 2, y - height / 2, x + width / 2, y + height / 2), meaning
    return names[number], (min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])), meaning


def _unread(column: int) -> str:
    return f"column {column} (a confidence or track id)"


def _box_and(count: int, what: str = "") -> Columns:
    if count == BOX_COLUMNS:
        return Columns(Shape.BOX, BOX_COLUMNS)
    if count == BOX_COLUMNS + 1:
        return Columns(Shape.BOX, BOX_COLUMNS, _unread(count))
    return Columns(Shape.BOX, BOX_COLUMNS, f"columns 6 to {count} ({what})")


def _pose(count: int, survey: ColumnSurvey) -> Columns | None:
    """Returns the columns of a box with keypoints, where all lines have those in their box."""
    if not survey.lines:
        return None
    for size, after in sorted(survey.keypoints, key=lambda pair: (pair[1], -pair[0])):
        number, rest = divmod(count - BOX_COLUMNS - after, size)
        if not rest and number > 0 and (number > _FEW_KEYPOINTS or survey.lines >= _ENOUGH_LINES):
            return _box_and(count, f"{number} keypoints, as they lie in every box; no kpt_shape says so")
    return None


def _keypoints_fit(values: Sequence[float], size: int, after: int) -> bool:
    """Returns whether the numbers may be a box and keypoints of `size` numbers in it, with `after` numbers at the end.

    A keypoint at 0, 0 is one that is not seen.
    """
    x, y, width, height = values[:4]
    keypoints = values[4 : len(values) - after]
    if not keypoints or len(keypoints) % size or not 0 < width <= 1 or not 0 < height <= 1:
        return False
    across, down = width / 2 + _TOLERANCE, height / 2 + _TOLERANCE
    if not (across - 3 * _TOLERANCE <= x <= 1 + 3 * _TOLERANCE - across):
        return False
    if not (down - 3 * _TOLERANCE <= y <= 1 + 3 * _TOLERANCE - down):
        return False
    points = zip(keypoints[0::size], keypoints[1::size], strict=True)
    seen = [(px, py) for px, py in points if px or py]
    return all(abs(px - x) <= across and abs(py - y) <= down for px, py in seen)


def _is_parallelogram(values: Sequence[float]) -> bool:
    """Returns whether four corners in order make a turned box; turning keeps it one in shares of a picture."""
    xs, ys = values[0:8:2], values[1:8:2]
    return all(abs(a + c - b - d) <= _TOLERANCE / 4 for a, b, c, d in (xs, ys))
