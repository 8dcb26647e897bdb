"""Frozen dataclasses to and from JSON documents: camelCase keys, strict types, unknown keys refused.

Every document of the contract is a dataclass; this is the one place where it becomes JSON.
"""

import dataclasses
import functools
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin

T = TypeVar("T")


class DecodeError(ValueError):
    """A document does not have the shape of its dataclass; the text names the field and what is allowed."""


def camel(name: str) -> str:
    """`max_detections` as `maxDetections`; a trailing underscore (a Python keyword) is dropped."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def to_dict(value: Any) -> Any:
    """`value` as plain JSON types. Fields that are `None` are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {camel(name): to_dict(item) for name, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def to_json(value: Any) -> bytes:
    """The canonical bytes of a document: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def from_json(cls: type[T], data: bytes | str) -> T:
    """The document `data` as `cls`.

    Raises:
        DecodeError: not JSON, or not of this shape.
    """
    try:
        loaded = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{cls.__name__} is not a JSON document: {error}") from None
    return from_dict(cls, loaded)


def from_dict(cls: type[T], data: Any) -> T:
    """Plain JSON types as `cls`; see `from_json`."""
    decoded: T = _decode(cls, data, cls.__name__)
    return decoded


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _decode(expected: Any, data: Any, where: str) -> Any:
    origin = get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(expected, data, where)
    if origin is tuple:
        _require(isinstance(data, list), where, "a list", data)
        return tuple(_decode(get_args(expected)[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _require(isinstance(data, dict), where, "an object", data)
        return {key: _decode(get_args(expected)[1], item, f"{where}.{key}") for key, item in data.items()}
    if dataclasses.is_dataclass(expected):
        return _decode_object(typing.cast(type, expected), data, where)
    return _decode_scalar(expected, data, where)


def _decode_optional(expected: Any, data: Any, where: str) -> Any:
    if data is None:
        return None
    inner = next(arg for arg in get_args(expected) if arg is not type(None))
    return _decode(inner, data, where)


def _decode_object(cls: type, data: Any, where: str) -> Any:
    _require(isinstance(data, dict), where, "an object", data)
    hints, known = _shape(cls)
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise DecodeError(f"{where} has unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    values = {}
    for key, field in known.items():
        if key in data and data[key] is not None:
            values[field.name] = _decode(hints[field.name], data[key], f"{where}.{key}")
        elif _is_required(field):
            raise DecodeError(f"{where}.{key} is missing")
    return cls(**values)


@functools.cache
def _shape(cls: type) -> tuple[dict[str, Any], dict[str, "dataclasses.Field[Any]"]]:
    """The types and the fields of a dataclass, worked out once: an operator reads thousands of statuses."""
    return typing.get_type_hints(cls), {camel(f.name): f for f in dataclasses.fields(cls)}


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _decode_scalar(expected: Any, data: Any, where: str) -> Any:
    if expected is Any or expected is object:
        return data
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        allowed = [str(member) for member in expected]
        _require(data in allowed, where, f"one of {', '.join(allowed)}", data)
        return expected(data)
    if expected is float:
        _require(isinstance(data, int | float) and not isinstance(data, bool), where, "a number", data)
        # Python's JSON reads any number of digits, and 1e999 as infinity.
        _require(abs(data) <= sys.float_info.max, where, "a finite number", data)
        return float(data)
    if expected is int:
        _require(isinstance(data, int) and not isinstance(data, bool), where, "an integer", data)
        return data
    _require(isinstance(data, expected), where, f"a {expected.__name__}", data)
    return data


def _require(condition: bool, where: str, allowed: str, data: Any) -> None:
    if not condition:
        shown = re.sub(r"\s+", " ", repr(data))[:80]
        raise DecodeError(f"{where} must be {allowed}, not {shown}")
