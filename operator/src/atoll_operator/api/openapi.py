"""Validates against a CRD's OpenAPI schema, by jsonschema with what Kubernetes does differently."""

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft4Validator, ValidationError
from jsonschema.validators import extend

from atoll_operator.api.crds import Schema
from atoll_operator.api.problems import Problem, invalid, shown
from atoll_operator.api.yaml import Path

_MAX_ADVICE = 200

# The OpenAPI words for JSON's types; Python's bool is an int, which is none here.
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
    """One keyword that does not hold: what it asks for (`limit`), of what, and jsonschema's words."""

    path: Path
    value: Any
    limit: Any
    schema: Any
    message: str


def violations(value: Any, schema: Schema) -> Iterator[Problem]:
    """What the schema forbids about `value`, in the order of the fields."""
    validator = _Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    for error in errors:
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
    # Go's $ is the end of the text; Python's also stands before a last newline.
    if pattern.endswith("$"):
        pattern = f"{pattern[:-1]}\\Z"
    return re.compile(pattern, re.ASCII)


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
    advice = ""
    if found.limit == "string" and kind in ("integer", "number", "boolean"):
        advice = f'put it in quotes: "{json.dumps(found.value)}"'
    elif found.limit in ("integer", "boolean") and kind == "string":
        advice = "write it without quotes"
    return invalid(found.path, found.value, f'must be of type {found.limit}: "{kind}"', advice)


def _int_or_string(found: _Violation) -> Problem:
    return invalid(found.path, found.value, found.message, "quantities such as 0.5 go in quotes")


def _enum(found: _Violation) -> Problem:
    allowed = [item for item in found.limit if isinstance(item, str)]
    close = difflib.get_close_matches(str(found.value), allowed, n=1)
    names = ", ".join(json.dumps(item) for item in found.limit)
    advice = f'did you mean "{close[0]}"?' if close else ""
    return Problem(found.path, f"Unsupported value: {shown(found.value)}: supported values: {names}", advice)


def _required(found: _Violation) -> Problem:
    missing = found.message
    return Problem((*found.path, missing), "Required value", _described(found.schema["properties"].get(missing, {})))


def _pattern(found: _Violation) -> Problem:
    return invalid(found.path, found.value, f"should match '{found.limit}'", _described(found.schema))


def _described(schema: Schema) -> str:
    text = " ".join(str(schema.get("description", "")).split())
    return text if len(text) <= _MAX_ADVICE else f"{text[:_MAX_ADVICE]}…"


def _bound(words: str) -> Callable[[_Violation], Problem]:
    return lambda found: invalid(found.path, found.value, words.format(found.limit))


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
    "minimum": _bound("should be greater than or equal to {}"),
    "maximum": _bound("should be less than or equal to {}"),
    "minLength": _bound("should be at least {} characters long"),
    "minItems": _bound("should have at least {} items"),
    "maxLength": _too_long,
    "maxItems": _too_many,
    "maxProperties": _too_many,
}
