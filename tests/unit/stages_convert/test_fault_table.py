"""The D rows of docs/faults.md name tests that exist, and every test of a fault stands there."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[2] / "docs" / "faults.md"


def test_the_table_and_the_tests_agree() -> None:
    named = set(re.findall(r"`(test_D\d+_\w+)`", TABLE.read_text()))
    written = {
        name for path in HERE.glob("test_*.py") for name in re.findall(r"^def (test_D\d+_\w+)", path.read_text(), re.M)
    }
    assert named == written
    assert {int(name.split("_")[1][1:]) for name in named} == set(range(1, 21))
