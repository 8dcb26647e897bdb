"""docs/seed.md: every step of the old system has its command, its test and its page, or a reason why it has not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll_cli.command_table import COMMANDS
from atoll_edge.cli import parser

DOCS = Path(__file__).parents[2] / "docs"
STEPS = range(1, 29)


@dataclass(frozen=True)
class Row:
    number: int
    old: str
    now: str
    command: str
    shown_by: str
    page: str


def rows() -> list[Row]:
    return list(_rows())


def _rows() -> Iterator[Row]:
    for line in (DOCS / "seed.md").read_text(encoding="utf-8").splitlines():
        if re.match(r"\| \d+ \|", line):
            number, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            yield Row(int(number), *cells)


def test_every_step_of_the_old_guide_is_there_once_in_order() -> None:
    assert [row.number for row in rows()] == list(STEPS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_every_step_has_a_command_that_exists(row: Row) -> None:
    edge = next(action for action in parser()._actions if action.choices and "run" in action.choices)
    named = re.findall(r"`(atoll(?:-edge)?) ([a-z-]+)`", row.command)
    assert named
    for program, command in named:
        assert command in (COMMANDS if program == "atoll" else edge.choices), f"{program} {command}"  # type: ignore[operator]


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_every_step_has_a_test_and_a_page(row: Row) -> None:
    """That the tests exist is held by `test_docs` for every page."""
    assert re.search(r"`tests/", row.shown_by)
    (page, anchor) = re.findall(r"\]\(([\w.-]+)(?:#([\w-]+))?\)", row.page)[0]
    text = (DOCS / page).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors


def test_what_is_left_out_has_a_reason() -> None:
    text = (DOCS / "seed.md").read_text(encoding="utf-8")
    left_out = re.findall(r"\*\*Not done:\*\* ([^|]+)", text)
    assert left_out
    assert all(len(reason.split()) > 5 for reason in left_out)
