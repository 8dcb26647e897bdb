"""JSON as annotations must be: no duplicate keys, NaN, infinite or endless numbers, bounded depth.

The standard parser does the work; only when something is wrong is the text walked again, slowly, to say where.
"""

import json
import math
import re
from typing import Any

from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason

# Ids and coordinates fit in 64 bits; Python's own limit (4300 digits) still costs quadratic time before it.
MAX_DIGITS = 20

_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<constant>-?Infinity|NaN)"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<rest>[\s:,]|true|false|null)"
)


class _Refused(ValueError):
    """Something that the standard parser would let pass."""


def parse_json(data: bytes, *, name: str, depth: int) -> Any:
    """The document in `data`; `name` is the file's in messages.

    Raises:
        DatasetError: AnnotationInvalid with line and column (from 1, in characters).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(name, f"byte {error.start}: not UTF-8") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_short,
        )
        _shallow(value, depth)
    except json.JSONDecodeError as error:
        raise _invalid(name, f"line {error.lineno} col {error.colno}: {error.msg}") from None
    except (_Refused, RecursionError):
        position, what = _locate(text, depth)
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        raise _invalid(name, f"line {line} col {column}: {what}") from None
    return value


def _invalid(name: str, what: str) -> DatasetError:
    return DatasetError(Reason.ANNOTATION_INVALID, f"{shown(name)} {what}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused
    return found


def _constant(_: str) -> Any:
    raise _Refused


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused
    return value


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused
    return int(text)


def _shallow(value: Any, limit: int) -> None:
    """Refuses nesting beyond `limit`, one level at a time."""
    level = [value]
    for _ in range(limit):
        level = [item for node in level for item in _children(node) if isinstance(item, dict | list)]
        if not level:
            return
    raise _Refused


def _children(node: Any) -> Any:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _locate(text: str, depth: int) -> tuple[int, str]:
    """Where the first refused thing stands, and what it is."""
    keys: list[set[str] | None] = []
    expecting_key = False
    for match in _TOKEN.finditer(text):
        kind, token, position = match.lastgroup, match.group(), match.start()
        if kind == "constant":
            return position, f"{token} is not a number"
        if kind == "number" and (what := _bad_number(token)):
            return position, what
        if kind == "open":
            keys.append(set() if token == "{" else None)
            if len(keys) > depth:
                return position, f"nested more than {depth} levels deep"
        elif kind == "close" and keys:
            keys.pop()
        elif kind == "string" and expecting_key and keys and keys[-1] is not None:
            key = json.loads(token)
            if key in keys[-1]:
                return position, f"duplicate key {shown(key)}"
            keys[-1].add(key)
        if token.strip():
            expecting_key = token == "{" or (token == "," and bool(keys) and keys[-1] is not None)
    return 0, "not a JSON document that can be read"


def _bad_number(token: str) -> str:
    if len(token) > MAX_DIGITS and token.lstrip("-").isdigit():
        return f"a number of {len(token)} digits, limit {MAX_DIGITS}"
    return "" if math.isfinite(float(token)) else f"{shown(token)} is not a finite number"
