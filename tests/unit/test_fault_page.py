"""docs/faults.md has all 99 faults and those found later, names files and tests that exist, and names every test that
bears a fault's id."""

import ast
import fnmatch
import functools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
GROUPS = {"O": 19, "C": 14, "P": 15, "S": 17, "D": 20, "E": 14}
IDS = [f"{group}{number}" for group, last in GROUPS.items() for number in range(1, last + 1)]
# Ids of faults that were found after the matrix.
LATER = re.compile(r"O[2-5]\d|P1[6-9]|P[23]\d|E1[5-9]|E2\d")
STATES = ("tested", "parts", "not tested", "not handled", "nothing to test")
PACKAGES = {
    "atoll_operator": "operator/src",
    "atoll_cli": "operator/src",
    "atoll_contract": "images/src",
    "atoll_stages": "images/src",
    "atoll_edge": "edge/src",
}
_ROW = re.compile(r"^\| ([OCPSDE]\d+) \|(.*)\|$", re.M)
_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Row:
    fault: str
    where: str
    state: str
    tests: str

    @property
    def names(self) -> list[str]:
        """The tests' names, or patterns of them."""
        quoted = _QUOTED.findall(self.tests)
        return [item.rpartition("::")[2] for item in quoted if item.startswith("test_") or "::" in item]


def rows() -> list[Row]:
    found = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    cells = [(fault, [cell.strip() for cell in rest.split(" | ")]) for fault, rest in found]
    assert [fault for fault, parts in cells if len(parts) != 5] == []
    return [Row(fault, parts[2], parts[3], parts[4]) for fault, parts in cells]


@functools.cache
def written() -> frozenset[str]:
    """The names of all tests of the project."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(name for name in names if name.startswith("test_"))


def bearing(fault: str) -> set[str]:
    """The tests whose names begin with ids of which one is the fault's."""
    return {name for name in written() if fault in _ids_of(name)}


def _ids_of(name: str) -> list[str]:
    leading = re.match(r"test_((?:[A-Z]\d+_)+)", name)
    return leading.group(1).split("_") if leading else []


def test_every_fault_has_one_row() -> None:
    found = [row.fault for row in rows()]
    assert Counter(fault for fault in found if not LATER.fullmatch(fault)) == Counter(IDS)
    assert len(set(found)) == len(found)
    assert len(IDS) == 99


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.fault)
def test_a_row_names_what_exists(row: Row) -> None:
    assert row.state in STATES
    places = _QUOTED.findall(row.where)
    assert places
    for place in places:
        folder = PACKAGES.get(place.partition("/")[0], ".")
        assert (ROOT / folder / place).is_file(), place
    for name in row.names:
        assert fnmatch.filter(written(), name), f"{name} is no test"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.fault)
def test_a_row_says_truly_whether_it_is_tested(row: Row) -> None:
    own = bearing(row.fault)
    unnamed = {test for test in own if not any(fnmatch.fnmatch(test, name) for name in row.names)}
    assert not unnamed, "tests that bear the id and are not in its row"
    assert (row.state == "tested") == bool(own)
    if row.state == "parts":
        assert "tests/" in row.tests or row.names
    if row.state in ("not tested", "nothing to test"):
        assert not row.tests


def test_the_table_below_names_tests_and_faults_that_exist() -> None:
    table = (
        PAGE.read_text(encoding="utf-8").partition("### What else somebody with kubectl meets")[2].partition("\n## ")[0]
    )
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 13
    places = [name for line in lines for name in _QUOTED.findall(line.split(" | ")[-1]) if name.startswith("test")]
    for place in places:
        file, _, name = place.rpartition("::")
        assert (ROOT / (file or place)).is_file() if "/" in place else place in written(), place
        assert not file or name in written(), place
    faults = set(re.findall(r"\b[OCPE]\d+\b", table))
    assert faults - {row.fault for row in rows()} == set()


def test_the_summary_counts_as_the_rows_do() -> None:
    text = PAGE.read_text(encoding="utf-8")
    counted = Counter(row.state for row in rows())
    summary = " ".join(text[text.index("In short:") :].partition("\n\n")[0].split())
    assert f"In short: {counted['tested']} tested, {counted['parts']} parts." in summary
    for state in STATES[2:]:
        told = re.search(rf"{state.capitalize()}: ([^.]*)\.", summary)
        assert told, state
        assert told.group(1).split(", ") == ([row.fault for row in rows() if row.state == state] or ["none"])
