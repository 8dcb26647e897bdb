"""docs/api.md is what the CRDs say."""

from pathlib import Path

from atoll_operator.api.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_tables_are_whole() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.replace("\\|", "").count("|") != 5] == []
