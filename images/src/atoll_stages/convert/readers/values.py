"""Reading values out of annotation documents: types checked, faults named."""

import math
from typing import Any

from atoll_contract.archive import Member
from atoll_contract.archive_meter import size
from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_stages.convert.example import Archive
from atoll_stages.convert.strict_json import parse_json


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
