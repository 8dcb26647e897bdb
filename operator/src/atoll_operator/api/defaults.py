"""Fills in the defaults of a CRD's schema, as the API server does when it stores or reads an object."""

import copy
from typing import Any

from atoll_operator.api.crds import Schema


def defaulted(value: Any, schema: Schema) -> Any:
    """A copy of `value` as the API server would store it: nulls pruned, defaults filled in."""
    result = copy.deepcopy(value)
    _prune_nulls(result, schema)
    _fill(result, schema)
    return result


def child_schema(schema: Schema, name: str) -> Schema | None:
    """The schema of the field `name` of an object; None where the schema does not know it."""
    found: Schema | None = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found


def _prune_nulls(value: Any, schema: Schema | None) -> None:
    if isinstance(value, list):
        for item in value:
            _prune_nulls(item, (schema or {}).get("items"))
    if not isinstance(value, dict):
        return
    for name, item in list(value.items()):
        child = child_schema(schema or {}, name)
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
        _fill(item, child_schema(schema, name))
