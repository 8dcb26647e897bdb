"""Every bound of the schemas is kept offline too; tests/api/test_crd_rules.py puts the same to a real API server."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from atoll_operator.api.crds import definitions
from atoll_operator.api.validation import check
from support.crd_cases.bounds import BOUNDS, FULL
from support.crd_cases.case import Case


@pytest.mark.parametrize("case", BOUNDS, ids=lambda case: case.id)
def test_bound(case: Case) -> None:
    problems = [f"{problem.field}: {problem.message}" for problem in check(case.document).problems]
    if case.refused is None:
        assert problems == []
    else:
        assert any(case.refused in problem for problem in problems), problems


def test_the_full_objects_have_every_field() -> None:
    missing = []
    for kind, definition in definitions().items():
        spec = definition.schema["properties"]["spec"]
        there = {path for document in FULL if document["kind"] == kind for path in _present(document["spec"], "")}
        missing += [f"{kind}.{path}" for path in _known(spec, "") if path not in there]
    # The store's other credentials exclude the one that is there; two cases of their own have them.
    assert missing == ["ObjectStore.credentials.workloadIdentity", "ObjectStore.credentials.anonymous"]


def _known(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _known(child, f"{prefix}{name}.")
        yield from _known(child.get("items", {}), f"{prefix}{name}[].")


def _present(value: Any, prefix: str) -> Iterator[str]:
    for name, item in value.items():
        yield f"{prefix}{name}"
        if isinstance(item, dict):
            yield from _present(item, f"{prefix}{name}.")
        for entry in item if isinstance(item, list) else ():
            yield from _present(entry, f"{prefix}{name}[].") if isinstance(entry, dict) else ()
