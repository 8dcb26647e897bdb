"""`TrainingRun.status` to and from the API's JSON, within its bound, and the patch from one to the next. Pure."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args, get_origin

from atoll_contract.codec import DecodeError, camel, from_dict, to_dict, to_json
from atoll_contract.errors import bounded
from atoll_operator.status import RunStatus

MAX_STATUS_BYTES = 16 * 2**10


def read_status(data: Mapping[str, Any] | None) -> RunStatus | None:
    """The status object of the API, or None where there is none yet.

    Fields of a newer version are left out, so that an older operator can go on with its runs.

    Raises:
        DecodeError: a known field has the wrong type (a hand-written status).
    """
    if not data or "phase" not in data:
        return None
    try:
        return from_dict(RunStatus, dict(data))
    except DecodeError:
        return from_dict(RunStatus, _known(RunStatus, dict(data)))


def write_status(status: RunStatus) -> dict[str, Any]:
    """`status` as the API's JSON, at most `MAX_STATUS_BYTES`: per-class figures and then class counts give way."""
    for shorter in _shrinking(status):
        written: dict[str, Any] = to_dict(shorter)
        if len(to_json(written)) <= MAX_STATUS_BYTES:
            break
    return written


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `old` into `new`; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value or key not in old:
            patch[key] = value
    return patch


def _shrinking(status: RunStatus) -> typing.Iterator[RunStatus]:
    yield status
    for keep in (50, 20, 5, 0):
        status = replace(status, per_class=status.per_class[:keep])
        if status.dataset:
            status = replace(status, dataset=replace(status.dataset, classes=status.dataset.classes[:keep]))
        yield status
    short_stages = tuple(replace(item, message=bounded(item.message, 100)) for item in status.stages)
    yield replace(status, stages=short_stages, message=bounded(status.message, 200))


def _known(expected: Any, data: Any) -> Any:
    """`data` without the fields that `expected` does not have, at any depth."""
    origin = get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        expected = next(arg for arg in get_args(expected) if arg is not type(None))
        origin = get_origin(expected)
    if origin is tuple and isinstance(data, list):
        return [_known(get_args(expected)[0], item) for item in data]
    if isinstance(expected, type) and dataclasses.is_dataclass(expected) and isinstance(data, dict):
        types_by_key = _field_types(expected)
        return {key: _known(types_by_key[key], value) for key, value in data.items() if key in types_by_key}
    return data


@functools.cache
def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {camel(item.name): hints[item.name] for item in dataclasses.fields(cls)}
