"""docs/api.md is what the CRDs say."""

import re
from pathlib import Path

import pytest

from atoll_operator.api.reference import ORDER, reference
from atoll_operator.api.validation import check
from atoll_operator.api.yaml import read_documents

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_tables_are_whole() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.replace("\\|", "").count("|") != 5] == []


@pytest.mark.parametrize("kind", ORDER)
def test_a_kind_has_examples_that_the_api_server_would_take(kind: str) -> None:
    (section,) = re.findall(rf"^## {kind}\n(.*?)(?=^## |\Z)", reference(), re.M | re.S)
    blocks = re.findall(r"^```yaml\n(.*?)^```", section, re.M | re.S)
    documents = [document.value for block in blocks for document in read_documents(block)]
    assert documents
    for document in documents:
        assert document["kind"] == kind
        assert check(document).problems == ()
