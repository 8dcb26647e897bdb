"""docs/contract.md §1 shows the fields that the CRDs have, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_operator.api.crds import definitions
from atoll_operator.api.openapi import unknown_fields
from atoll_operator.api.yaml import read_documents

PAGE = Path(__file__).parents[3] / "docs" / "contract.md"
SECTION = PAGE.read_text(encoding="utf-8").split("\n## 2. ")[0]
EXAMPLES = {
    document.value["kind"]: document.value
    for block in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    for document in read_documents(block)
}
# Shown in comments or by a reference, for brevity.
ABBREVIATED = (
    "ObjectStore.spec.credentials.",
    "TrainingProfile.spec.resources.",
    "TrainingProfile.spec.limits.dataset.",
    "TrainingSweep.spec.template.spec.",
)


@pytest.mark.parametrize("kind", ["TrainingRun", "TrainingSweep", "ObjectStore", "TrainingProfile", "ModelRelease"])
def test_examples_have_no_other_fields(kind: str) -> None:
    assert [str(problem) for problem in unknown_fields(EXAMPLES[kind], definitions()[kind].schema)] == []


@pytest.mark.parametrize("kind", ["TrainingRun", "TrainingSweep", "ObjectStore", "TrainingProfile", "ModelRelease"])
def test_examples_have_every_field(kind: str) -> None:
    shown = set(_shown(EXAMPLES[kind], ""))
    fields = {f"{kind}.{path}" for path in _fields(definitions()[kind].schema, "") if path not in shown}
    missing = [path for path in sorted(fields) if not path.startswith(ABBREVIATED)]
    assert [path for path in missing if ".conditions[]" not in path and not path.startswith(f"{kind}.metadata")] == []


def _fields(schema: Any, prefix: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _fields(child, f"{prefix}{name}.")
        yield from _fields(child.get("items", {}), f"{prefix}{name}[].")


def _shown(value: Any, prefix: str) -> Iterator[str]:
    for name, item in value.items():
        yield f"{prefix}{name}"
        if isinstance(item, dict):
            yield from _shown(item, f"{prefix}{name}.")
        for entry in item if isinstance(item, list) else ():
            yield from _shown(entry, f"{prefix}{name}[].") if isinstance(entry, dict) else ()
