"""Validates against the OpenAPI schema of a CRD, by jsonschema with Kubernetes' differences."""

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend

from atoll_operator.api import advice
from atoll_operator.api.crds import Schema
from atoll_operator.api.defaults import child_schema
from atoll_operator.api.problems import Problem, field_name, invalid, shown
from atoll_operator.api.yaml import Path

# The names of JSON's types in OpenAPI. Python's bool is an int, so it comes first.
_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


@dataclass(frozen=True)
class _Violation:
    """A violated keyword: its value in the schema (`limit`), the violating value, and jsonschema's message."""

    path: Path
    value: Any
    limit: Any
    schema: Any
    message: str


def violations(value: Any, schema: Schema) -> Iterator[Problem]:
    """Yields the violations of the schema, in the order of fields."""
    validator = _Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator in _TYPES}
    for error in errors:
        # A value of a wrong type breaks the bounds of the right one, too; that is one mistake.
        if error.validator not in _TYPES and tuple(error.absolute_path) in mistyped:
            continue
        found = _Violation(
            tuple(error.absolute_path), error.instance, error.validator_value, error.schema, error.message
        )
        yield _EXPLANATIONS.get(str(error.validator), _other)(found)


def type_name(value: Any) -> str:
    """The OpenAPI type of a value."""
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "null")


def _check_type(validator: Any, expected: Any, value: Any, schema: Schema) -> Iterator[ValidationError]:
    if value is None and schema.get("nullable"):
        return
    if not validator.is_type(value, expected):
        yield ValidationError(f"must be of type {expected}")


def _check_int_or_string(_: Any, wanted: Any, value: Any, schema: Schema) -> Iterator[ValidationError]:
    allowed = (isinstance(value, int | str) and not isinstance(value, bool)) or (
        value is None and schema.get("nullable")
    )
    if wanted and not allowed:
        yield ValidationError("must be of type integer or string")


def _check_pattern(_: Any, pattern: str, value: Any, schema: Schema) -> Iterator[ValidationError]:
    del schema
    if isinstance(value, str) and not _expression(pattern).search(value):
        yield ValidationError("does not match")


def _check_required(_: Any, names: list[str], value: Any, schema: Schema) -> Iterator[ValidationError]:
    del schema
    if isinstance(value, dict):
        yield from (ValidationError(name) for name in names if name not in value)


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    # Go's $ matches the end of the text only; Python's also matches before a last newline.
    if pattern.endswith("$"):
        pattern = f"{pattern[:-1]}\\Z"
    return re.compile(pattern, re.ASCII)


_TYPES = ("type", "x-kubernetes-int-or-string")

_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft4Validator,
    {
        "type": _check_type,
        "required": _check_required,
        "pattern": _check_pattern,
        "x-kubernetes-int-or-string": _check_int_or_string,
    },
)


def _type(found: _Violation) -> Problem:
    kind = type_name(found.value)
    if found.limit == "string" and kind in ("integer", "number", "boolean"):
        text = f'put it in quotes: "{json.dumps(found.value)}"'
    else:
        text = advice.for_type(found.value, found.schema)
    return invalid(found.path, found.value, f'must be of type {found.limit}: "{kind}"', text)


def _int_or_string(found: _Violation) -> Problem:
    return invalid(found.path, found.value, found.message, "quantities such as 0.5 go in quotes")


def _enum(found: _Violation) -> Problem:
    allowed = [item for item in found.limit if isinstance(item, str)]
    close = difflib.get_close_matches(str(found.value), allowed, n=1)
    names = ", ".join(json.dumps(item) for item in found.limit)
    near = f'did you mean "{close[0]}"?' if close else ""
    return Problem(found.path, f"Unsupported value: {shown(found.value)}: supported values: {names}", near)


def _required(found: _Violation) -> Problem:
    missing = found.message
    return Problem(
        (*found.path, missing), "Required value", advice.described(found.schema["properties"].get(missing, {}))
    )


def _pattern(found: _Violation) -> Problem:
    text = advice.for_pattern(found.path, found.value, found.schema)
    problem = invalid(found.path, found.value, f"should match '{found.limit}'", text)
    return replace(problem, plain=f"Invalid value: {shown(found.value)}") if text else problem


def _minimum(found: _Violation) -> Problem:
    message = f"should be greater than or equal to {found.limit}"
    return invalid(found.path, found.value, message, advice.for_minimum(found.value, found.schema))


def _bound(template: str) -> Callable[[_Violation], Problem]:
    return lambda found: invalid(found.path, found.value, template.format(found.limit))


def _too_many(found: _Violation) -> Problem:
    return Problem(found.path, f"Too many: {len(found.value)}: must have at most {found.limit} items")


def _too_long(found: _Violation) -> Problem:
    message = f"Too long: may not be more than {found.limit} characters, and has {len(found.value)}"
    return Problem(found.path, message)


def _other(found: _Violation) -> Problem:
    return invalid(found.path, found.value, found.message)


_EXPLANATIONS: dict[str, Callable[[_Violation], Problem]] = {
    "type": _type,
    "x-kubernetes-int-or-string": _int_or_string,
    "enum": _enum,
    "required": _required,
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _bound("should be less than or equal to {}"),
    "minLength": _bound("should be at least {} characters long"),
    "minItems": _bound("should have at least {} items"),
    "maxLength": _too_long,
    "maxItems": _too_many,
    "maxProperties": _too_many,
}


# Not in the schema of a kind: `validation` checks them.
_ROOT_FIELDS = ("apiVersion", "kind", "metadata")


def unknown_fields(value: Any, schema: Schema) -> Iterator[Problem]:
    """Yields the fields that the schema does not have, with the nearest name that it has."""
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
    if own := advice.for_field(name):
        return own
    elsewhere = [found for found in _paths(schema, ()) if found[-1] == name and found[0] == "spec"]
    if elsewhere:
        return f"the field is {field_name(elsewhere[0])}"
    where = field_name(parent) or "the object"
    return f"fields of {where} are {', '.join(known)}" if known else f"{where} takes no fields"


def _paths(schema: Schema, path: Path) -> Iterator[Path]:
    for name, child in schema.get("properties", {}).items():
        yield (*path, name)
        yield from _paths(child, (*path, name))
    if "items" in schema:
        yield from _paths(schema["items"], path)


def duplicates(value: Any, schema: Schema, path: Path = ()) -> Iterator[Problem]:
    """Yields the items of `set` and `map` lists that are there twice."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from duplicates(item, child_schema(schema, name) or {}, (*path, name))
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
    """The part of an item that must be unique in a list with this schema; None where nothing must."""
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return item
        case "map" if isinstance(item, Mapping):
            return {key: item.get(key) for key in schema["x-kubernetes-list-map-keys"]}
    return None
