"""Text of strangers in tables and CSV files."""

import csv
import io

import pytest

from atoll_cli.console import print_view, text_table
from atoll_contract.text import csv_row, table_cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("note", "note"),
        ("\x1b]0;PWNED\x07", r"\x1b]0;PWNED\x07"),
        ("a\0b\x7f\x9b31m", r"a\x00b\x7f\x9b31m"),
        ("two\nlines\u2028", r"two\nlines\u2028"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("half \ud83d", r"half \ud83d"),
        ("\U0001f469\u200d\U0001f680 名前 می\u200cخواهم", "\U0001f469\u200d\U0001f680 名前 می\u200cخواهم"),
    ],
)
def test_control_characters_are_escaped_and_other_text_stays(text: str, shown: str) -> None:
    assert table_cell(text) == shown


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-cmd", "'-cmd"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("note-1", "note-1"),
        ("-0.125", "-0.125"),
        ("+1.5e-07", "+1.5e-07"),
        (-3, "-3"),
        (-0.5, "-0.5"),
        ("", ""),
    ],
)
def test_a_csv_cell_is_no_formula_and_a_number_stays_one(cell: object, written: str) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(csv_row(["x", cell]))
    assert file.getvalue() == f"x,{written}\n"


def test_a_table_on_the_terminal_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_view(text_table(("MODEL", "\x1b[31mred"), [("[bold]x", "a\x1b[2Jb")]))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"\x1b[31mred" in shown
    assert r"[bold]x  a\x1b[2Jb" in shown
