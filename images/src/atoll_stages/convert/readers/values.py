"""Numbers, ids and texts as people's exports have them: `"0"` for 0, `10,5` for 10.5, 3.0 for an id."""

import math
import re
from typing import Any

from atoll_contract.archive.limits import shown
from atoll_stages.convert.problems import Kind

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,19})(?:\.0+)?")


class NoBox(ValueError):
    """An object has no box and is left out; `kind` is the problem under which it is counted."""

    kind: Kind


class InvalidValue(NoBox):
    """A value of an object is not what the format requires."""

    kind = Kind.BOX_MALFORMED


def kind_of(value: Any) -> str:
    """Returns the JSON name of a value's type, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def number(value: Any) -> float:
    """Returns a JSON number, or a text that holds one, as float.

    Raises:
        InvalidValue: it is neither.
    """
    if isinstance(value, str):
        return number_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"{kind_of(value)} where a number is needed: {shown(repr(value), 40)}")
    return float(value)


def number_text(text: str | None) -> float:
    """Returns the finite number that a text holds, with a decimal point or comma.

    Raises:
        InvalidValue: it holds none.
    """
    stripped = (text or "").strip()
    if _DECIMAL_COMMA.fullmatch(stripped):
        stripped = stripped.replace(",", ".")
    try:
        # Python also takes `1_000`.
        value = float("" if "_" in stripped else stripped)
    except ValueError:
        raise InvalidValue(f"{shown(text or '', 40)} is not a number") from None
    if not math.isfinite(value):
        raise InvalidValue(f"{shown(text or '', 40)} is not a finite number")
    return value


def positive_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Returns (width, height) as an annotation claims it; None where it claims nothing usable."""
    try:
        sides = number(width), number(height)
    except InvalidValue:
        return None
    return (int(sides[0]), int(sides[1])) if min(sides) >= 1 else None


def id_of(value: Any) -> int | str | None:
    """Returns an id for comparisons: 7, 7.0, "7" and "7.0" are one, other texts are ids too; None for the rest."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text
    return None


def text_of(value: Any) -> str | None:
    """Returns a text; of a whole number its digits, as a class may be called 2027; None for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def is_true(value: Any) -> bool:
    """Returns whether a flag is set: true, 1, 1.0, "1" or "true"."""
    return value is True or id_of(value) == 1 or (isinstance(value, str) and value.strip().lower() == "true")
