"""Says offline what the API server would say of an object, from the same `crds/`."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atoll_operator.api import API_VERSION, GROUP
from atoll_operator.api.crds import Definition, definitions
from atoll_operator.api.metadata import metadata_problems
from atoll_operator.api.openapi import violations
from atoll_operator.api.problems import Problem, invalid
from atoll_operator.api.rules import broken_rules
from atoll_operator.api.structural import defaulted, duplicates, unknown_fields


@dataclass(frozen=True)
class Checked:
    """`value` is the object as it would be stored, with its defaults; only of use where there are no problems."""

    value: Mapping[str, Any]
    problems: tuple[Problem, ...]


def is_atoll(document: Any) -> bool:
    """Whether the document claims to be one of Atoll's kinds."""
    version = document.get("apiVersion") if isinstance(document, dict) else None
    return isinstance(version, str) and version.split("/")[0] == GROUP


def check(document: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> Checked:
    """`document` as the API server would take it, created or (over the stored `old`) updated.

    A status in the document is looked at for unknown fields and then dropped: the API server does the same.
    """
    identity = tuple(_identity(document))
    if identity:
        return Checked(document, identity)
    definition = definitions()[document["kind"]]
    unknown = tuple(unknown_fields(document, definition.schema))
    value = defaulted({name: item for name, item in document.items() if name != "status"}, definition.schema)
    basic = (*metadata_problems(document), *_schema_problems(value, definition))
    broken = broken_rules(value, definition.schema, old=old, damaged=[problem.path for problem in basic])
    return Checked(value, (*unknown, *basic, *broken))


def _schema_problems(value: Mapping[str, Any], definition: Definition) -> Iterator[Problem]:
    for problem in (*violations(value, definition.schema), *duplicates(value, definition.schema)):
        if problem.path[:1] != ("metadata",):
            yield problem


def _identity(document: Any) -> Iterator[Problem]:
    if not isinstance(document, dict):
        yield invalid((), document, "an object must be a mapping with apiVersion, kind, metadata and spec")
        return
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not version:
        yield Problem(("apiVersion",), "Required value", f"write apiVersion: {API_VERSION}")
    elif version != API_VERSION:
        yield invalid(("apiVersion",), version, f"must be {API_VERSION}")
    if not isinstance(kind, str) or kind not in definitions():
        yield _unknown_kind(kind)


def _unknown_kind(kind: Any) -> Problem:
    names = sorted(definitions())
    if not kind:
        return Problem(("kind",), "Required value", f"kinds are {', '.join(names)}")
    close = difflib.get_close_matches(str(kind), names, n=1)
    advice = f'did you mean "{close[0]}"?' if close else f"kinds are {', '.join(names)}"
    return invalid(("kind",), kind, f"{API_VERSION} has no such kind", advice)
