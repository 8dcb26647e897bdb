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
from collections.abc import Callable, Hashable, Mapping
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
    kind = type(value)
    if kind is str or value is None:
        return value
    if dataclasses.is_dataclass(kind):
        pairs = ((key, getattr(value, name)) for key, name in _keys(kind))
        return {key: to_dict(item) for key, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


@functools.cache
def _keys(cls: Hashable) -> tuple[tuple[str, str], ...]:
    """Key and attribute of each field of a dataclass."""
    return tuple((camel(f.name), f.name) for f in dataclasses.fields(typing.cast(Any, cls)))


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
    read: Callable[[Any], T] = _reader(typing.cast(Hashable, cls))
    try:
        decoded = read(data)
    except _Misfit as misfit:
        raise DecodeError(misfit.told(cls.__name__)) from None
    return decoded


class _Misfit(Exception):
    """What does not fit, and the way to it from the document's top, which is put together on the way up."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self._told = told
        self._way: list[str] = []

    def within(self, part: str) -> "_Misfit":
        self._way.append(part)
        return self

    def told(self, top: str) -> str:
        return self._told.format(where=top + "".join(reversed(self._way)))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


@functools.cache
def _reader(expected: Any) -> Callable[[Any], Any]:
    """The function that reads JSON types as `expected`; made once for a type, as an operator reads thousands of
    statuses. It raises _Misfit."""
    origin = get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(next(arg for arg in get_args(expected) if arg is not type(None)))
    if origin is tuple:
        return _list_reader(get_args(expected)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _map_reader(get_args(expected)[1])
    if dataclasses.is_dataclass(expected):
        return _object_reader(typing.cast(type, expected))
    return _scalar_reader(expected)


def _optional_reader(inner: Any) -> Callable[[Any], Any]:
    read = _reader(inner)
    return lambda data: None if data is None else read(data)


def _list_reader(inner: Any) -> Callable[[Any], Any]:
    read_item = _reader(inner)

    def read(data: Any) -> Any:
        if not isinstance(data, list):
            raise _misfit("a list", data)
        try:
            return tuple(map(read_item, data))
        except _Misfit:
            return tuple(_within(read_item, item, f"[{i}]") for i, item in enumerate(data))

    return read


def _map_reader(inner: Any) -> Callable[[Any], Any]:
    read_item = _reader(inner)

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _misfit("an object", data)
        return {key: _within(read_item, item, f".{key}") for key, item in data.items()}

    return read


def _object_reader(cls: type) -> Callable[[Any], Any]:
    fields: dict[str, tuple[str, Callable[[Any], Any]]] = {}

    def read(data: Any) -> Any:
        if not fields:
            # Not before the first document: a class may hold others of its own kind.
            hints = typing.get_type_hints(cls)
            fields.update({camel(f.name): (f.name, _reader(hints[f.name])) for f in dataclasses.fields(cls)})
        if not isinstance(data, dict):
            raise _misfit("an object", data)
        if not data.keys() <= fields.keys():
            raise _unknown(set(data), set(fields))
        values = {}
        for key, item in data.items():
            if item is not None:
                name, read_item = fields[key]
                try:
                    values[name] = read_item(item)
                except _Misfit as misfit:
                    raise misfit.within(f".{key}") from None
        for key in required:
            if key not in values:
                raise _Misfit(f"{{where}}.{camel(key)} is missing")
        return cls(**values)

    required = [f.name for f in dataclasses.fields(cls) if _is_required(f)]
    return read


def _within(read: Callable[[Any], Any], data: Any, part: str) -> Any:
    try:
        return read(data)
    except _Misfit as misfit:
        raise misfit.within(part) from None


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _scalar_reader(expected: Any) -> Callable[[Any], Any]:
    if expected is Any or expected is object:
        return lambda data: data
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        return _choice_reader(expected)
    if expected is float:
        return _read_float
    allowed = "an integer" if expected is int else f"a {expected.__name__}"

    def read(data: Any) -> Any:
        # A boolean is an int to Python.
        if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
            raise _misfit(allowed, data)
        return data

    return read


def _choice_reader(expected: type[StrEnum]) -> Callable[[Any], Any]:
    members = {str(member): member for member in expected}

    def read(data: Any) -> Any:
        member = members.get(data) if isinstance(data, str) else None
        if member is None:
            raise _misfit(f"one of {', '.join(members)}", data)
        return member

    return read


def _read_float(data: Any) -> float:
    if not isinstance(data, int | float) or isinstance(data, bool):
        raise _misfit("a number", data)
    # Python's JSON reads any number of digits, and 1e999 as infinity.
    if abs(data) > sys.float_info.max:
        raise _misfit("a finite number", data)
    return float(data)


def _unknown(given: set[str], known: set[str]) -> _Misfit:
    first, allowed = sorted(given - known)[0], ", ".join(sorted(known))
    return _Misfit(_plain(f" has unknown field {first!r}; known are {allowed}"))


def _misfit(allowed: str, data: Any) -> _Misfit:
    shown = re.sub(r"\s+", " ", repr(data))[:80]
    return _Misfit(_plain(f" must be {allowed}, not {shown}"))


def _plain(words: str) -> str:
    """What follows on the place; words of the document may hold braces."""
    return "{where}" + words.replace("{", "{{").replace("}", "}}")
