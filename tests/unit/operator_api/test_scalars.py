"""Unquoted YAML words mean what sigs.k8s.io/yaml 1.6 makes of them; each row was read with that library."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll_operator.api.yaml import plain, tagged

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PLAIN = {
    "": None,
    "~": None,
    "null": None,
    "NULL": None,
    "nul": "nul",
    "y": True,
    "Yes": True,
    "on": True,
    "TRUE": True,
    "tRue": "tRue",
    "n": False,
    "No": False,
    "off": False,
    "False": False,
    "0": 0,
    "-0": 0,
    "+12": 12,
    "010": 8,
    "08": 8,
    "0o17": 15,
    "0O17": 15,
    "0o8": "0o8",
    "0x1F": 31,
    "-0x10": -16,
    "0b101": 5,
    "-0b101": -5,
    "0b2": "0b2",
    "0x": "0x",
    "1_000": 1000,
    "1__0": 10,
    "_1": "_1",
    "1e3": 1000,
    "1E5": 100000,
    "1e-3": 0.001,
    "1.": 1,
    "1.5e1": 15,
    "80.0": 80,
    ".5": 0.5,
    "-.5": -0.5,
    ".9_296": 0.9296,
    "._5": "._5",
    "1e": "1e",
    "1e400": "1e400",
    "0x1p3": "0x1p3",
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "2026-01-02": "2026-01-02",
    "2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z",
    "1-": "1-",
    "-": "-",
    "+": "+",
    "1,000": "1,000",
    "9223372036854775807": 9223372036854775807,
    "18446744073709551615": 18446744073709551615,
    "18446744073709551616": 1.8446744073709552e19,
    "inf": "inf",
    "nan": "nan",
}


@pytest.mark.parametrize("text", PLAIN)
def test_plain(text: str) -> None:
    value = plain(text)
    assert value == PLAIN[text]
    assert type(value) is type(PLAIN[text])


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN"])
def test_a_value_without_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be written in JSON"):
        plain(text)


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        ("int", "5", 5),
        ("int", "0x10", 16),
        ("float", "1e3", 1000),
        ("bool", "no", False),
        ("null", "", None),
        ("binary", "aGVsbG8=", "hello"),
        ("timestamp", "2026-01-02", "2026-01-02"),
    ],
)
def test_tagged(tag: str, text: str, value: object) -> None:
    assert tagged(f"tag:yaml.org,2002:{tag}", text) == value


@pytest.mark.parametrize(
    ("tag", "text"), [("int", "5.5"), ("int", "yes"), ("bool", "5"), ("null", "x"), ("binary", "?"), ("float", "x")]
)
def test_tag_that_does_not_fit(tag: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a|must hold"):
        tagged(f"tag:yaml.org,2002:{tag}", text)


def test_tags_of_ones_own_leave_text() -> None:
    assert tagged("!rate", "5") == "5"


@RELAXED
@given(st.integers(min_value=-(2**63), max_value=2**64 - 1))
def test_integers_survive(number: int) -> None:
    assert plain(str(number)) == number


@RELAXED
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_numbers_survive(number: float) -> None:
    value = plain(json.dumps(number))
    assert isinstance(value, int | float)
    assert math.isclose(value, number, rel_tol=0, abs_tol=0)


@RELAXED
@given(st.text(alphabet="0123456789_+-.eExXoObBnNaAyYtTrR:", max_size=12))
def test_every_literal_has_a_json_value(text: str) -> None:
    try:
        value = plain(text)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value
