"""Text as it is shown: that of strangers (class names, file names) on a terminal and in cells of CSV files; figures.

A control character can rewrite a terminal or reverse text, and a spreadsheet takes a cell with `=` for a formula.
"""

import re
import unicodedata
from collections.abc import Iterable

# Embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# C0, C1 and DEL; line and paragraph separator; half a surrogate pair.
_CONTROL = ("Cc", "Zl", "Zp", "Cs")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_control(character: str) -> bool:
    """Whether it is a control character, a line break, or one that changes the direction of the text around it."""
    return character in _BIDI or unicodedata.category(character) in _CONTROL


def table_cell(text: str) -> str:
    """`text` with its control characters escaped, as `\\x1b`; all other text stays as it is."""
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode("ascii") if is_control(character) else character
        for character in text
    )


def csv_row(cells: Iterable[object]) -> list[object]:
    """A row for `csv.writer`: text without control characters, and none that is a formula. Numbers stay as they are."""
    return [_quote(cell) + table_cell(cell) if isinstance(cell, str) else cell for cell in cells]


def _quote(text: str) -> str:
    return "'" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else ""


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def ap50_text(ap50: float, *, images: int, interval: tuple[float, float] | None) -> str:
    """`0.768 (32 pictures: .59–.92)`: the figure, the number of images that it is of, and its 95 % interval."""
    if not images:
        return f"{ap50:.3f}"
    borders = ": " + "–".join(f"{border:.2f}".removeprefix("0") for border in interval) if interval else ""
    return f"{ap50:.3f} ({images:,} picture{'' if images == 1 else 's'}{borders})"
