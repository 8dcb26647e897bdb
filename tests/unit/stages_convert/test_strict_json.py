"""Strict JSON: what the standard parser takes by right is taken alike; everything else has a place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.parsing import parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_good_json_reads_as_the_standard_parser_reads_it(value: object, indent: int | None) -> None:
    data = json.dumps(value, indent=indent).encode()
    assert parse_json(data, name="a.json", depth=40) == json.loads(data)


def test_byte_order_mark_is_passed_over() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', name="a.json", depth=4) == {"a": 1}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"a": {"b": 1, "b": 2}}', '"a.json" line 1 col 16: duplicate key "b"'),
        ('[{"a": 1},\n {"a": 1, "c": [], "\\u0061": 2}]', '"a.json" line 2 col 20: duplicate key "a"'),
        ('["NaN", NaN]', '"a.json" line 1 col 9: NaN is not a number'),
        ('{"Infinity": 1, "x": Infinity}', '"a.json" line 1 col 22: Infinity is not a number'),
        ("[1.5,\n -1e400]", '"a.json" line 2 col 2: "-1e400" is not a finite number'),
        ("[123456789012345678901]", '"a.json" line 1 col 2: a number of 21 digits, limit 20'),
        ("[[[[[1]]]]]", '"a.json" line 1 col 5: nested more than 4 levels deep'),
        ("[1, 2", "\"a.json\" line 1 col 6: Expecting ',' delimiter"),
        ('["a\nb"]', '"a.json" line 1 col 4: Invalid control character at'),
    ],
)
def test_what_is_refused_and_where(data: str, expected: str) -> None:
    with pytest.raises(DatasetError) as caught:
        parse_json(data.encode(), name="a.json", depth=4)
    assert caught.value.reason is Reason.ANNOTATION_INVALID
    assert caught.value.message == expected


@given(st.binary(max_size=60) | st.text('[]{}",:0123eE-.Na Infity\\u\n').map(str.encode))
def test_any_bytes_are_json_or_refused_with_a_place(data: bytes) -> None:
    try:
        parse_json(data, name="a.json", depth=5)
    except DatasetError as error:
        refusal = error.message
    else:
        return
    assert refusal.startswith(('"a.json" line ', '"a.json" byte '))


def test_depth_is_counted_by_nesting_not_by_brackets() -> None:
    assert parse_json(b"[[1],[1],[1],[[[2]]]]", name="a.json", depth=4) == [[1], [1], [1], [[[2]]]]
