"""Documents as JSON: camelCase keys, strict types, unknown keys refused.

Every document of the contract is a `Document`. msgspec decodes it in one call; only a document that msgspec refuses is
walked through field by field, for a message that says which key, which value and what is allowed.

A document that another version of Atoll may have written is read with `skip_unknown`: its unknown fields are left out.
Its unknown words are read as `fallbacks` says for their enumeration.
"""

import dataclasses
import difflib
import json
import math
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")
# For an enumeration, what its unknown words are read as; None: the field counts as missing.
Fallbacks = Mapping[type[StrEnum], StrEnum | None]


class DecodeError(ValueError):
    """A document does not have the shape of its class; the text names the field and what is allowed."""


def camel(name: str) -> str:
    """`max_detections` as `maxDetections`; a trailing underscore (a Python keyword) is dropped."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=camel):
    """The base of every document. Subclasses repeat `frozen=True` for the type checker."""


if TYPE_CHECKING:
    # Type checkers know this name, and hold the changes to the fields.
    from dataclasses import replace as replace
else:

    def replace(value: T, /, **changes: Any) -> T:
        """A copy of a document, or of a dataclass, with some fields changed."""
        change = msgspec.structs.replace if isinstance(value, msgspec.Struct) else dataclasses.replace
        return change(value, **changes)


# What msgspec knows already.
_learned: set[Any] = set()
_learning = threading.Lock()


def learn(kind: Any) -> None:
    """Lets msgspec learn a type, with all types in it, before it is decoded.

    msgspec (0.22) learns a type when it first decodes it, and another thread that decodes the same one meanwhile takes
    it as it is: the process ends by a segmentation fault. So one thread learns at a time, and none decodes before.
    """
    if kind not in _learned:
        with _learning:
            msgspec.json.Decoder(kind)
            _learned.add(kind)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def to_dict(value: Any) -> Any:
    """`value` as plain JSON types. Fields that are `None` are left out."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [to_dict(item) for item in value]
    if isinstance(value, msgspec.Struct):
        pairs = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
        return {key: to_dict(item) for key, name in pairs if (item := getattr(value, name)) is not None}
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    return value


def rfc3339(time: datetime | float | None = None) -> str:
    """`time` (a datetime, seconds since 1970, or None for now) as documents have it: UTC, whole seconds."""
    if time is None:
        time = datetime.now(UTC)
    elif not isinstance(time, datetime):
        time = datetime.fromtimestamp(time, UTC)
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_json(value: Any) -> bytes:
    """The canonical bytes of a document: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def from_json(cls: type[T], data: bytes | str, *, skip_unknown: bool = False, fallbacks: Fallbacks | None = None) -> T:
    """The document `data` as `cls`.

    Raises:
        DecodeError: not JSON, or not of this shape.
    """
    learn(cls)
    try:
        return msgspec.json.decode(data, type=cls)
    except (ValueError, RecursionError):
        pass  # Python's reader says what is wrong, and takes a lone surrogate.
    try:
        loaded = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{cls.__name__} is not a JSON document: {error}") from None
    return _read_checked(cls, loaded, _Reading(skip_unknown, fallbacks or {}))


def from_dict(cls: type[T], data: Any, *, skip_unknown: bool = False, fallbacks: Fallbacks | None = None) -> T:
    """Plain JSON types as `cls`. With `skip_unknown`, fields of a newer version are left out at any depth.

    Raises:
        DecodeError: `data` is not of this shape.
    """
    learn(cls)
    reading = _Reading(skip_unknown, fallbacks or {})
    try:
        document = msgspec.convert(data, cls)
    except ValueError:
        return _read_checked(cls, data, reading)
    # YAML has a word for infinity, and Python's JSON reads 1e999 as such.
    return document if _is_finite(data) else _read_checked(cls, data, reading)


def _is_finite(data: Any) -> bool:
    if isinstance(data, Mapping):
        return all(map(_is_finite, data.values()))
    if isinstance(data, list):
        return all(map(_is_finite, data))
    return not (isinstance(data, float) and math.isinf(data))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What of another version is accepted."""

    skip_unknown: bool
    fallbacks: Fallbacks


def _read_checked(cls: type[T], data: Any, reading: _Reading) -> T:
    checked = _checked(cls, data, cls.__name__, reading)
    try:
        return msgspec.convert(checked, cls)
    except ValueError as error:
        raise DecodeError(f"{cls.__name__}: {error}") from None


def _checked(kind: Any, data: Any, path: str, reading: _Reading) -> Any:
    """`data` without fields that are null, and without unknown ones where those may be skipped.

    Raises:
        DecodeError: `data`, whose place in the document is `path`, is not of the type `kind`.
    """
    if type(None) in get_args(kind):
        if data is None:
            return None
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    origin = get_origin(kind)
    if origin is tuple:
        item_kind = get_args(kind)[0]
        items = enumerate(_expected(list, "a list", data, path))
        return [_checked(item_kind, item, f"{path}[{i}]", reading) for i, item in items]
    if origin is not None:
        item_kind = get_args(kind)[1]
        pairs = _expected(dict, "an object", data, path).items()
        return {key: _checked(item_kind, item, f"{path}.{key}", reading) for key, item in pairs}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _checked_fields(kind, data, path, reading)
    if kind in reading.fallbacks and isinstance(data, str) and data not in tuple(kind):
        return reading.fallbacks[kind]
    return _checked_scalar(kind, data, path)


def _checked_fields(cls: type[msgspec.Struct], data: Any, path: str, reading: _Reading) -> dict[str, Any]:
    fields = {item.encode_name: item for item in msgspec.structs.fields(cls)}
    given = _expected(dict, "an object", data, path)
    unknown = given.keys() - fields.keys()
    if unknown and not reading.skip_unknown:
        name, known = sorted(unknown)[0], sorted(fields)
        close = difflib.get_close_matches(name, known, n=1)
        near = f"did you mean {close[0]!r}? " if close else ""
        raise DecodeError(f"{path} has unknown field {name!r}; {near}known are {', '.join(known)}")
    found = {
        key: _checked(fields[key].type, item, f"{path}.{key}", reading)
        for key, item in given.items()
        if key in fields and item is not None
    }
    checked = {key: item for key, item in found.items() if item is not None}
    for key, field in fields.items():
        if field.required and key not in checked:
            raise DecodeError(f"{path}.{key} is missing")
    return checked


def _checked_scalar(kind: Any, data: Any, path: str) -> Any:
    # Python's JSON reads any number of digits, and 1e999 as infinity.
    if kind is float and type(data) in (int, float) and abs(data) > sys.float_info.max:
        raise _unexpected("a finite number", data, path)
    try:
        return msgspec.convert(data, kind)
    except ValueError:  # Also of a lone surrogate in what should be a number or a word of a list.
        raise _unexpected(_allowed(kind), data, path) from None


def _allowed(kind: Any) -> str:
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {float: "a number", int: "an integer"}.get(kind, f"a {kind.__name__}")


def _expected(kind: type[T], allowed: str, data: Any, path: str) -> T:
    if not isinstance(data, kind):
        raise _unexpected(allowed, data, path)
    return data


def _unexpected(allowed: str, data: Any, path: str) -> DecodeError:
    shown = re.sub(r"\s+", " ", repr(data))[:80]
    return DecodeError(f"{path} must be {allowed}, not {shown}")
