"""JSON as annotations must be: no duplicate keys, NaN, infinite or endless numbers, bounded depth.

The standard parser does the work; only when something is wrong is the text walked again, slowly, to say where.
"""

import json
import math
import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member, Members
from atoll_contract.archive.limits import shown, size
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example import PICTURE_SUFFIXES, Archive
from atoll_stages.convert.split import part_word_in

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


class ValueFault(ValueError):
    """A value of one object is not what the format asks for; the object is bad, not the file."""


def annotation_bytes(archive: Archive, member: Member) -> bytes:
    """The bytes of an annotation file.

    Raises:
        DatasetError: DatasetTooLarge past the limit.
    """
    limit = archive.limits.annotation_bytes
    if member.size > limit:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"annotation file {shown(member.name)} has {size(member.size)}, limit {size(limit)}",
        )
    return member.path.read_bytes()


def annotation_text(archive: Archive, member: Member) -> str:
    """The text of an annotation file, UTF-8 with or without a byte order mark."""
    try:
        return annotation_bytes(archive, member).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(member.name, f"byte {error.start}: not UTF-8") from None


def json_object(archive: Archive, member: Member) -> dict[str, Any]:
    """The JSON object that the member holds.

    Raises:
        DatasetError: AnnotationInvalid with file, line and column.
    """
    data = annotation_bytes(archive, member)
    value = parse_json(data, name=member.name, depth=archive.limits.json_depth)
    if not isinstance(value, dict):
        raise invalid(member.name, f"line 1 col 1: the root must be an object, not {kind_of(value)}")
    return value


def invalid(file: str, what: str) -> DatasetError:
    return DatasetError(Reason.ANNOTATION_INVALID, f"{shown(file)} {what}")


def kind_of(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def list_of(document: dict[str, Any], key: str, *, file: str) -> list[Any]:
    """The list at `key`.

    Raises:
        DatasetError: AnnotationInvalid, the key is missing or holds something else.
    """
    if key not in document:
        raise invalid(file, f"has no key {shown(key)}")
    value = document[key]
    if not isinstance(value, list):
        raise invalid(file, f"key {shown(key)} must be a list, not {kind_of(value)}")
    return value


def number(value: Any) -> float:
    """A JSON number as float.

    Raises:
        ValueFault: it is something else (a string "12" included).
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFault(f"{kind_of(value)} where a number is needed: {shown(repr(value), 40)}")
    return float(value)


def number_text(text: str | None) -> float:
    """A number written as text, finite.

    Raises:
        ValueFault: it is none.
    """
    try:
        value = float(text or "")
    except ValueError:
        raise ValueFault(f"{shown(text or '', 40)} is not a number") from None
    if not math.isfinite(value):
        raise ValueFault(f"{shown(text or '', 40)} is not a finite number")
    return value


def positive_size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) as an annotation claims it, or None where it says nothing usable."""
    values = (width, height)
    if all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 1 for v in values):
        return int(width), int(height)
    return None


_PICTURE_FOLDERS = ("images", "JPEGImages", "img", "data", "")


def picture_by_name(members: Members, name: str, *, near: str) -> Member | None:
    """The member that an annotation in the folder `near` calls `name` (a file name or path, in any notation).

    First where exports put pictures beside annotations, then anywhere, if only one there has this name.
    """
    path = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
    while path.startswith("../"):
        path = path[3:]
    for folder in _folders(near):
        if (found := members.get(posixpath.join(folder, path))) is not None:
            return found
    return _only(members.by_base(PurePosixPath(path).name), path, near)


def picture_by_stem(members: Members, stem: str, *, near: str) -> Member | None:
    """The picture `stem` plus some suffix, in `near` or the folders beside it."""
    for folder in _folders(near):
        for suffix in PICTURE_SUFFIXES:
            if (found := members.get(posixpath.join(folder, stem + suffix))) is not None:
                return found
    return None


def dataset_of(member: Member) -> str:
    """What an annotation file for many pictures calls its dataset: its folder, and the part in its name."""
    word = part_word_in(member.base)
    return "/".join(part for part in (member.folder, word) if part) or PurePosixPath(member.name).stem


def _folders(near: str) -> Iterator[str]:
    parent = posixpath.dirname(near)
    yield near
    for base in dict.fromkeys((near, parent)):
        for folder in _PICTURE_FOLDERS:
            yield posixpath.join(base, folder) if folder else base


def _only(found: list[Member], path: str, near: str) -> Member | None:
    """The one member meant: of several, the one whose path ends alike, or that shares the annotation's folder."""
    if len(found) < 2:
        return found[0] if found else None
    alike = [member for member in found if f"/{member.name}".endswith(f"/{path}")]
    beside = [member for member in found if near and member.name.startswith(f"{near}/")]
    return next((chosen[0] for chosen in (alike, beside) if len(chosen) == 1), None)
