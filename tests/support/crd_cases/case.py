"""What a case is, and small ways to write one."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

# In a change: take the field away.
ABSENT = object()


@dataclass(frozen=True)
class Case:
    """An object that is created, or over `old` updated. `refused` is a part of the refusal; None: accepted."""

    id: str
    document: Document
    refused: str | None = None
    old: Document | None = None


def accepted(name: str, document: Document, *, old: Document | None = None) -> Case:
    return Case(f"{name}-accepted", document, None, old)


def refused(name: str, document: Document, says: str, *, old: Document | None = None) -> Case:
    return Case(f"{name}-refused", document, says, old)


def changed(document: Document, change: Mapping[str, Any]) -> Document:
    """A copy of `document` with `change` merged in: objects field by field, everything else replaced."""
    result = copy.deepcopy(document)
    _merge(result, change)
    return result


def _merge(target: Document, change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        if value is ABSENT:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = copy.deepcopy(value)
