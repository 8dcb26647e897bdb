"""Helpers of the readers: the text of annotation files, and strict JSON.

The standard parser reads JSON, but duplicate keys, NaN, infinite or very long numbers and deep nesting are refused. The
text is scanned again, slowly, only to find the line and column of an error.
"""

import json
import math
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown, size
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.problems import Action
from atoll_stages.convert.readers.base import Archive, LabelledBox
from atoll_stages.convert.readers.values import NoBox, kind_of

_T = TypeVar("_T")

# Ids and coordinates fit in 64 bits. Reading a number takes quadratic time, up to Python's own limit of 4300 digits.
MAX_DIGITS = 20

_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<constant>-?Infinity|NaN)"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<rest>[\s:,]|true|false|null)"
)


def parse_boxes(
    archive: Archive, file: Member, objects: Iterable[tuple[int, _T]], parse: Callable[[_T, int], LabelledBox]
) -> tuple[LabelledBox, ...]:
    """Returns the boxes of numbered objects; an object for which `parse` raises NoBox is counted as a problem.

    Objects enter the totals of the dataset here.
    """
    boxes = []
    for number, item in objects:
        archive.see_objects(1)
        try:
            boxes.append(parse(item, number))
        except NoBox as error:
            archive.problems.add(error.kind, Action.DROPPED, file=file.name, number=number, detail=str(error))
    return tuple(boxes)


def invalid(file: str, what: str) -> DatasetError:
    """Returns the AnnotationInvalid error of a whole annotation file."""
    return DatasetError(Reason.ANNOTATION_INVALID, f"{shown(file)} {what}")


def check_size(archive: Archive, member: Member) -> None:
    """Raises DatasetTooLarge where an annotation file is above the limit."""
    limit = archive.limits.annotation_bytes
    if member.size > limit:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"annotation file {shown(member.name)} has {size(member.size)}, limit {size(limit)}",
        )


def annotation_bytes(archive: Archive, member: Member) -> bytes:
    """Returns the bytes of an annotation file; raises as `check_size`."""
    check_size(archive, member)
    return member.read()


def annotation_text(archive: Archive, member: Member) -> str:
    """Returns the text of an annotation file, UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        DatasetError: DatasetTooLarge; AnnotationInvalid, it is not UTF-8.
    """
    data = annotation_bytes(archive, member)
    try:
        # PowerShell writes UTF-16.
        return data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(member.name, f"byte {error.start}: not UTF-8") from None


def json_object(archive: Archive, member: Member) -> dict[str, Any]:
    """Returns the JSON object in an annotation file.

    Raises:
        DatasetError: DatasetTooLarge; AnnotationInvalid with file, line and column.
    """
    data = annotation_bytes(archive, member)
    value = parse_json(data, name=member.name, depth=archive.limits.json_depth)
    if not isinstance(value, dict):
        raise invalid(member.name, f"line 1 col 1: the root must be an object, not {kind_of(value)}")
    return value


def list_of(document: dict[str, Any], key: str, *, file: str) -> list[Any]:
    """Returns the list at `key`.

    Raises:
        DatasetError: AnnotationInvalid, the key is missing or holds something else.
    """
    if key not in document:
        raise invalid(file, f"has no key {shown(key)}")
    value = document[key]
    if not isinstance(value, list):
        raise invalid(file, f"key {shown(key)} must be a list, not {kind_of(value)}")
    return value


class _Refused(ValueError):
    """The standard parser accepts this value, but an annotation may not have it."""


def parse_json(data: bytes, *, name: str, depth: int) -> Any:
    """Returns the document in `data`; `name` is the file's name in messages.

    Raises:
        DatasetError: AnnotationInvalid with line and column (from 1, in characters).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(name, f"byte {error.start}: not UTF-8") from None
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
        raise invalid(name, f"line {error.lineno} col {error.colno}: {error.msg}") from None
    except (_Refused, RecursionError):
        position, what = _locate(text, depth)
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        raise invalid(name, f"line {line} col {column}: {what}") from None
    return value


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
    """Raises where values are nested deeper than `limit`."""
    # The parser makes these very types, so that none has to be asked for its base classes.
    level = [value] if type(value) in (dict, list) else []
    for _ in range(limit):
        inner: list[Any] = []
        for node in level:
            inner += [item for item in (node.values() if type(node) is dict else node) if type(item) in (dict, list)]
        level = inner
        if not level:
            return
    raise _Refused


def _locate(text: str, depth: int) -> tuple[int, str]:
    """Returns the index of the first refused value in the text, and what is wrong with it."""
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
