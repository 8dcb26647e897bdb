"""Every case of `support.crd_cases`, offline; tests/api/test_crd_rules.py puts the same to a real API server."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from atoll_operator.api.crds import definitions
from atoll_operator.api.validation import check
from support.crd_cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case) -> None:
    old = check(case.old).value if case.old is not None else None
    problems = [f"{problem.field}: {problem.message}" for problem in check(case.document, old=old).problems]
    if case.refused is None:
        assert problems == []
    else:
        assert any(case.refused in problem for problem in problems), problems


def test_every_rule_has_a_refused_case() -> None:
    said = [case.refused for case in CASES if case.refused]
    rules = [message for definition in definitions().values() for message in _messages(definition.schema)]
    assert len(rules) > 40
    assert [message for message in rules if not any(words in message for words in said)] == []


def test_case_ids_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


def _messages(schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for child in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            yield from _messages(child)
