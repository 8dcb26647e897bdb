"""Evaluates the CEL rules of a CRD (`x-kubernetes-validations`), with transition rules, by cel-python."""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atoll_operator.api import advice
from atoll_operator.api.crds import Schema
from atoll_operator.api.openapi import list_identity
from atoll_operator.api.problems import Problem, invalid
from atoll_operator.api.yaml import Path

# The part of metadata that CEL rules see.
_METADATA_FIELDS = ("name", "generateName")
_OLD_SELF = re.compile(r"\boldSelf\b")


@dataclass(frozen=True)
class _Node:
    """A value with its schema, and the former value (None on creation, or where it is unknown)."""

    value: Any
    schema: Schema
    path: Path
    old: Any = None


def broken_rules(value: Any, schema: Schema, *, old: Any = None, damaged: Iterable[Path] = ()) -> Iterator[Problem]:
    """The rules that `value` breaks; on an update `old` is the stored object.

    A rule that cannot be evaluated counts as broken, as in the API server. Rules of values that contain one of the
    paths `damaged` are skipped: the schema's problems come first, and its bounds keep rules cheap.
    """
    skipped = {path[:length] for path in damaged for length in range(len(path) + 1)}
    root = _Node(_visible(value), schema, (), old=_visible(old) if old is not None else None)
    for node in _nodes(root):
        rules = node.schema.get("x-kubernetes-validations", ()) if node.path not in skipped else ()
        variables = _variables(node) if rules else ()
        for rule in rules:
            yield from _check(rule, node, variables)


def _variables(node: _Node) -> tuple[tuple[str, str], ...]:
    values = {"self": node.value} if node.old is None else {"self": node.value, "oldSelf": node.old}
    return tuple((name, json.dumps(_ordered(value, node.schema))) for name, value in values.items())


def _check(rule: Schema, node: _Node, variables: tuple[tuple[str, str], ...]) -> Iterator[Problem]:
    expression = rule["rule"]
    if node.old is None and _OLD_SELF.search(expression):
        return
    holds = _evaluate(expression, variables)
    if isinstance(holds, str):
        yield invalid(node.path, node.value, f"the rule ({expression}) cannot be evaluated: {holds}")
    elif not holds:
        text = advice.for_rule(expression, node.path, node.value)
        yield invalid(node.path, node.value, rule.get("message", f"failed rule: {expression}"), text)


@functools.lru_cache(maxsize=4096)
def _evaluate(expression: str, variables: tuple[tuple[str, str], ...]) -> bool | str:
    """Whether the rule holds for the variables (JSON texts), or the error of its evaluation. Cached: objects of one
    kind are much alike, and cel-python takes milliseconds for each rule."""
    from celpy import CELEvalError, json_to_cel

    try:
        return bool(_program(expression).evaluate({name: json_to_cel(json.loads(text)) for name, text in variables}))
    except CELEvalError as error:
        return str(error.args[0])


def _nodes(node: _Node) -> Iterator[_Node]:
    """`node` and everything below it that the schema knows."""
    yield node
    if isinstance(node.value, dict):
        old = node.old if isinstance(node.old, dict) else {}
        for name, item in node.value.items():
            child = node.schema.get("properties", {}).get(name, node.schema.get("additionalProperties"))
            if child is not None:
                yield from _nodes(_Node(item, child, (*node.path, name), old.get(name)))
    if isinstance(node.value, list):
        before = _by_identity(node.old, node.schema)
        for index, item in enumerate(node.value):
            previous = before.get(_identity_text(item, node.schema))
            yield from _nodes(_Node(item, node.schema["items"], (*node.path, index), previous))


def _by_identity(items: Any, schema: Schema) -> Mapping[str, Any]:
    """The items of a former `map` list by their keys; empty for other lists, whose items have no identity."""
    if not isinstance(items, list) or schema.get("x-kubernetes-list-type") != "map":
        return {}
    return {_identity_text(item, schema): item for item in items}


def _identity_text(item: Any, schema: Schema) -> str:
    return json.dumps(list_identity(item, schema), sort_keys=True)


def _visible(value: Any) -> Any:
    """The object as CEL rules see it: with only the names of its metadata."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return value
    return {**value, "metadata": {name: metadata[name] for name in _METADATA_FIELDS if name in metadata}}


def _ordered(value: Any, schema: Schema | None) -> Any:
    """`value` with `set` and `map` lists sorted: Kubernetes compares them without regard to order."""
    schema = schema or {}
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        return {key: _ordered(item, schema.get("properties", {}).get(key, extra)) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [_ordered(item, schema.get("items")) for item in value]
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        items.sort(key=lambda item: _identity_text(item, schema))
    return items


@functools.cache
def _environment() -> Any:
    import celpy

    return celpy.Environment()


@functools.cache
def _program(expression: str) -> Any:
    environment = _environment()
    return environment.program(environment.compile(expression), functions={"substring": _substring})


def _substring(text: Any, start: Any, end: Any = None) -> Any:
    """Kubernetes' string function, which CEL itself lacks."""
    return type(text)(text[int(start) : None if end is None else int(end)])
