import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import field

from atoll_contract.document import DecodeError, Document, camel, from_dict, from_json, replace, to_dict, to_json


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Document, frozen=True):
    size: int
    share: float = 0.5


class Outer(Document, frozen=True):
    name: str
    colour: Colour = Colour.RED
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    from_: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def test_keys_are_camel_case_and_none_is_left_out() -> None:
    assert json.loads(to_json(Outer(name="a", from_="b"))) == {
        "name": "a",
        "colour": "red",
        "many": [],
        "labels": {},
        "from": "b",
        "figures": {},
    }
    assert camel("max_ap50_drop") == "maxAp50Drop"


@given(
    st.builds(
        Outer,
        name=st.text(),
        colour=st.sampled_from(Colour),
        inner=st.none() | st.builds(Inner, size=st.integers(), share=st.floats(allow_nan=False, allow_infinity=False)),
        many=st.lists(st.builds(Inner, size=st.integers())).map(tuple),
        labels=st.dictionaries(st.text(), st.text()),
    )
)
def test_every_document_survives_the_round_trip(document: Outer) -> None:
    assert from_json(Outer, to_json(document)) == document


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON document"),
        ('{"name": NaN}', "NaN is not a number"),
        ("[]", "Outer must be an object"),
        ("{}", "Outer.name is missing"),
        ('{"name": 1}', "Outer.name must be a str, not 1"),
        ('{"name": "a", "nam": "b"}', "unknown field 'nam'"),
        ('{"name": "a", "colour": "green"}', "one of red, blue"),
        ('{"name": "a", "many": [{"size": 1}, {"size": true}]}', r"many\[1\].size must be an integer, not True"),
        ('{"name": "a", "inner": {"size": 1, "share": "x"}}', "inner.share must be a number"),
        ('{"name": "a", "labels": {"k": 5}}', "labels.k must be a str"),
        ('{"name": "a", "labels": {"{k}": 5}}', r"Outer.labels.\{k\} must be a str, not 5"),
        ('{"name": "a", "many": {}}', "Outer.many must be a list, not {}"),
        (
            '{"name": "a", "many": [{"size": 1, "share": 2, "width": 3}]}',
            "unknown field 'width'; known are",
        ),
        ('{"name": "a", "many": [{}]}', r"Outer.many\[0\].size is missing"),
        ('{"name": "a", "inner": {"size": 1.0}}', "Outer.inner.size must be an integer, not 1.0"),
        ('{"name": null}', "Outer.name is missing"),
    ],
)
def test_a_wrong_document_is_refused_with_its_path_and_the_allowed_values(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        from_json(Outer, text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400])
def test_a_number_beyond_all_floats_is_refused(number: str) -> None:
    with pytest.raises(DecodeError, match=r"share must be a finite number, not"):
        from_json(Inner, f'{{"size": 1, "share": {number}}}')


@pytest.mark.parametrize("number", [float("inf"), float("-inf")])
def test_infinity_is_refused_also_outside_of_json(number: float) -> None:
    data = {"name": "a", "many": [{"size": 1}, {"size": 2, "share": number}]}
    with pytest.raises(DecodeError, match=r"many\[1\]\.share must be a finite number, not -?inf"):
        from_dict(Outer, data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "a", "colour": "\\ud800"}', "Outer.colour must be one of red, blue"),
        ('{"name": "a", "inner": {"size": "\\ud800"}}', "Outer.inner.size must be an integer"),
        ('{"name": "a", "many": "\\ud800"}', "Outer.many must be a list"),
        ('{"name": "a", "\\ud800": 1}', "Outer has unknown field"),
    ],
)
def test_a_lone_surrogate_in_a_wrong_place_is_refused(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        from_json(Outer, text)
    with pytest.raises(DecodeError, match=words):
        from_dict(Outer, json.loads(text))


def test_a_null_field_is_an_absent_field() -> None:
    text = '{"name": "a", "colour": null, "many": [{"size": 1, "share": null}], "figures": {"ap50": null}}'
    assert from_json(Outer, text) == Outer(name="a", many=(Inner(size=1),), figures={"ap50": None})


def test_an_absent_figure_is_written_as_null_and_an_absent_field_is_not_written() -> None:
    written = to_dict(Outer(name="a", figures={"ap50": None}))
    assert written["figures"] == {"ap50": None}
    assert "inner" not in written


def test_fields_of_a_newer_version_can_be_left_out_at_any_depth() -> None:
    newer = {"name": "a", "inner": {"size": 1, "depth": 2}, "many": [{"size": 3, "depth": 4}], "height": 5}
    assert from_dict(Outer, newer, skip_unknown=True) == Outer(name="a", inner=Inner(size=1), many=(Inner(size=3),))
    with pytest.raises(DecodeError, match=r"inner\.size must be an integer, not 'x'"):
        from_dict(Outer, {"name": "a", "inner": {"size": "x", "depth": 2}}, skip_unknown=True)


def test_a_document_and_a_dataclass_are_changed_in_the_same_way() -> None:
    @dataclass(frozen=True)
    class Plain:
        size: int

    assert replace(Inner(size=1), share=0.25) == Inner(size=1, share=0.25)
    assert replace(Plain(size=1), size=2) == Plain(size=2)
