import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.document import DecodeError, camel, from_json, to_json


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    colour: Colour = Colour.RED
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    from_: str = ""


def test_keys_are_camel_case_and_none_is_left_out() -> None:
    assert json.loads(to_json(Outer(name="a", from_="b"))) == {
        "name": "a",
        "colour": "red",
        "many": [],
        "labels": {},
        "from": "b",
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
    ],
)
def test_a_wrong_document_is_refused_with_place_and_allowed_values(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        from_json(Outer, text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400])
def test_a_number_beyond_all_floats_is_refused(number: str) -> None:
    with pytest.raises(DecodeError, match=r"share must be a finite number, not"):
        from_json(Inner, f'{{"size": 1, "share": {number}}}')
