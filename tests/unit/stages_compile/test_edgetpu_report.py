"""The parser of the compiler's output, on the formats of versions 14, 15 and 16."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_stages.compile.edgetpu import parse_report

LOGS = Path(__file__).parent / "logs"


def log(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "version", "mapped", "total"),
    [
        ("v16-partial", "16.0.384591198", 122, 125),
        ("v16-all-without-table", "16.0.384591198", 71, 71),
        ("v16-search", "16.0.384591198", 113, 125),
        ("v15-partial", "15.0.340273435", 71, 112),
        ("v15-none-mapped", "15.0.340273435", 0, 69),
        ("v14-partial-without-table", "14.1.317412892", 102, 108),
    ],
)
def test_operations_are_counted(name: str, version: str, mapped: int, total: int) -> None:
    report = parse_report(log(name))
    assert report.succeeded
    assert (report.version, report.mapped, report.total) == (version, mapped, total)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_table_names_what_stays_on_the_cpu_and_why(newline: str) -> None:
    report = parse_report(log("v15-partial").replace("\n", newline))
    assert report.unmapped == ("30 EXP (Operation not supported)", "11 MUL (Operation version not supported)")
    assert [row.operator for row in report.rows] == ["EXP", "CONV_2D", "MUL"]


def test_the_table_of_the_log_file_serves_as_well() -> None:
    table = log("v15-partial")[log("v15-partial").index("Operator  ") :]
    report = parse_report(log("v14-partial-without-table"), table)
    assert (report.mapped, report.total) == (102, 108)
    assert report.unmapped[0] == "30 EXP (Operation not supported)"


def test_counts_agree_with_the_table_in_every_log_that_has_both() -> None:
    for name in ("v16-partial", "v16-search", "v15-partial", "v15-none-mapped"):
        report = parse_report(log(name))
        assert sum(row.count for row in report.rows) == report.total
        assert sum(row.count for row in report.rows if row.status == "Mapped to Edge TPU") == report.mapped


@pytest.mark.parametrize(
    ("name", "internal", "timed_out", "refusal"),
    [
        ("v14-internal-error", True, False, None),
        ("v15-not-quantized", False, False, "Model not quantized"),
        ("v16-version-refused", False, False, "Didn't find op for builtin opcode 'EXP' version '2'"),
        ("v16-timeout", False, True, None),
        ("v15-version-only", False, False, None),
    ],
)
def test_failures_are_distinguished(name: str, internal: bool, timed_out: bool, refusal: str | None) -> None:
    report = parse_report(log(name))
    assert not report.succeeded
    assert (report.internal_error, report.timed_out) == (internal, timed_out)
    assert (report.refusal or "").startswith(refusal or "")
    assert (report.refusal is None) == (refusal is None)
    assert (report.mapped, report.total) == (None, None)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert parse_report(text, text).rows is not None
