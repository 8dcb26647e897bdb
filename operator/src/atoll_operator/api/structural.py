"""What the API server does with an object before it validates it: unknown fields, nulls, defaults; and after it:
list types. Follows apiextensions-apiserver's `schema/{pruning,defaulting,listtype}`."""

import copy
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from atoll_operator.api.crds import Schema
from atoll_operator.api.problems import Problem, field_name
from atoll_operator.api.yaml import Path

# Not part of the schema of any kind: `metadata` checks them.
_ROOT_FIELDS = ("apiVersion", "kind", "metadata")


def unknown_fields(value: Any, schema: Schema) -> Iterator[Problem]:
    """Fields that the schema does not have, with the nearest that it has."""
    inner = {name: item for name, item in value.items() if name not in _ROOT_FIELDS}
    for path, known in _unknown(inner, schema, ()):
        yield Problem(path, f'unknown field "{field_name(path)}"', _near(str(path[-1]), path[:-1], known, schema))


def _unknown(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, list[str]]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), (*path, index))
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    for name, item in value.items():
        if name in properties:
            yield from _unknown(item, properties[name], (*path, name))
        elif extra is not None:
            yield from _unknown(item, extra, (*path, name))
        elif schema.get("type") == "object":
            yield (*path, name), sorted(set(properties) - set(_ROOT_FIELDS))


def _near(name: str, parent: Path, known: list[str], schema: Schema) -> str:
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower().replace("_", "").replace("-", ""), folded, n=1, cutoff=0.7)
    if close:
        return f'did you mean "{folded[close[0]]}"?'
    elsewhere = [place for place in _places(schema, ()) if place[-1] == name and place[0] == "spec"]
    if elsewhere:
        return f"the field is {field_name(elsewhere[0])}"
    where = field_name(parent) or "the object"
    return f"fields of {where} are {', '.join(known)}" if known else f"{where} takes no fields"


def _places(schema: Schema, path: Path) -> Iterator[Path]:
    for name, child in schema.get("properties", {}).items():
        yield (*path, name)
        yield from _places(child, (*path, name))
    if "items" in schema:
        yield from _places(schema["items"], path)


def defaulted(value: Any, schema: Schema) -> Any:
    """A copy of `value` as the API server would store it: nulls pruned, defaults filled in."""
    result = copy.deepcopy(value)
    _prune_nulls(result, schema)
    _fill(result, schema)
    return result


def _child(schema: Schema, name: str) -> Schema | None:
    found: Schema | None = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found


def _prune_nulls(value: Any, schema: Schema | None) -> None:
    if isinstance(value, list):
        for item in value:
            _prune_nulls(item, (schema or {}).get("items"))
    if not isinstance(value, dict):
        return
    for name, item in list(value.items()):
        child = _child(schema or {}, name)
        if item is None and child is not None and not child.get("nullable") and "default" not in child:
            del value[name]
        else:
            _prune_nulls(item, child)


def _fill(value: Any, schema: Schema | None) -> None:
    if schema is None:
        return
    if isinstance(value, list):
        for item in value:
            _fill(item, schema.get("items"))
    if not isinstance(value, dict):
        return
    for name, child in schema.get("properties", {}).items():
        missing = name not in value or (value[name] is None and not child.get("nullable"))
        if missing and "default" in child:
            value[name] = copy.deepcopy(child["default"])
    for name, item in value.items():
        _fill(item, _child(schema, name))


def duplicates(value: Any, schema: Schema, path: Path = ()) -> Iterator[Problem]:
    """Items of `set` and `map` lists that are there twice."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from duplicates(item, _child(schema, name) or {}, (*path, name))
    if not isinstance(value, list):
        return
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        yield from duplicates(item, schema.get("items", {}), (*path, index))
        identity = list_identity(item, schema)
        if identity is None:
            continue
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        if text in seen:
            first = field_name((*path, seen[text]))
            yield Problem((*path, index), f"Duplicate value: {text}", f"it is in {first} already")
        seen.setdefault(text, index)


def list_identity(item: Any, schema: Schema) -> Any:
    """What must be unique about an item of the list with this schema; None where nothing must."""
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return item
        case "map" if isinstance(item, Mapping):
            return {key: item.get(key) for key in schema["x-kubernetes-list-map-keys"]}
    return None
