"""docs/runtimes.md: every line of its table names a way to get the files and a test that shows it."""

import re
from pathlib import Path

import pytest

from atoll_cli.runtime_files import RUNTIMES

PAGE = (Path(__file__).parents[2] / "docs/runtimes.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| runs unchanged in")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_line_is_shown_by_a_test(row: list[str]) -> None:
    """That the tests exist is held by `test_docs` for every page."""
    _, _, way, shown, tests = row
    assert shown in ("runs", "by its rules")
    assert way == "`atoll pull`" or re.fullmatch(r"`--for (\w+)`", way)
    assert "`tests/" in tests


def test_the_page_names_every_program_that_the_command_knows() -> None:
    assert len(ROWS) >= 6
    assert set(re.findall(r"`--for (\w+)`", PAGE)) == set(RUNTIMES)
