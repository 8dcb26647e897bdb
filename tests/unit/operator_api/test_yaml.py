"""Reading YAML: lines, errors, several documents, and what PyYAML alone would do differently."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll_operator.api.yaml import MAX_CHARACTERS, YamlError, read_documents


def read(text: str) -> Any:
    (document,) = read_documents(text)
    return document.value


def test_lines_are_those_of_the_keys() -> None:
    (document,) = read_documents("# comment\na: 1\nb:\n  - x\n  - c: 2\n    d: 3\n")
    assert [document.line(path) for path in (("a",), ("b",), ("b", 0), ("b", 1), ("b", 1, "d"))] == [2, 3, 4, 5, 6]


def test_the_line_of_an_absent_field_is_that_of_its_parent() -> None:
    (document,) = read_documents("---\na:\n  b: 1\n")
    assert document.line(("a", "missing", 0)) == 2
    assert document.line(("missing",)) == document.line(()) == 2


def test_several_documents_and_empty_ones() -> None:
    documents = read_documents("# nothing\n---\na: 1\n---\n---\nb: 2\n...\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert [document.line(("b",)) for document in documents] == [3, 6]


def test_anchors_merges_and_keys() -> None:
    assert read("a: &x {k: 1}\nb: *x\nc: {<<: *x, m: 2}\n") == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "m": 2}}
    assert read("1: a\non: b\n1.5: c\n'<<': d\n") == {"1": "a", "true": "b", "1.5": "c", "<<": "d"}


def test_quotes_keep_text() -> None:
    assert read("a: '5'\nb: \"yes\"\nc: |\n  1\nd: !!str 5\n") == {"a": "5", "b": "yes", "c": "1\n", "d": "5"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'the key "a" is here a second time (first on line 1)'),
        ("a: {b: 1, b: 2}\n", 1, "a second time"),
        ("a: &x {k: 1}\nc: {<<: *x, k: 2}\n", 2, "a second time"),
        ("1: a\n'1': b\n", 2, "a second time"),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: b: c\n", 1, "check the indentation"),
        ("a: [1,\n", 2, "expected"),
        ("a: *nothing\n", 1, "undefined alias"),
        ("a: &x [*x]\n", 1, "an anchor that contains itself"),
        ("a: &x {<<: *x}\n", 1, "nested deeper"),
        ("a: {<<: 5}\n", 1, "<< takes a mapping"),
        ("[a]: b\n", 1, "a key must be"),
        ("~: b\n", 1, "a key must be"),
        ("a: .inf\n", 1, "cannot be written in JSON"),
        ("a: !!int x\n", 1, "is not a !!int"),
        ('a: "\\ud83d"\n', 1, "half a character"),
        ("a: 1\nb: \x01\n", 2, "U+0001"),
        ("%YAML 1.2\n---\na: 1\n", 1, "no % directives"),
        (f"{'[' * 3000}", 1, "nested deeper"),
        (f"a: {'[' * 150}{']' * 150}\n", 1, "nested deeper"),
        ("a" * (MAX_CHARACTERS + 1), 1, "characters"),
    ],
)
def test_errors_name_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_documents(text)
    assert words in str(caught.value)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")


def test_a_few_lines_cannot_become_millions() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    with pytest.raises(YamlError, match="what aliases repeat"):
        read_documents(bomb)


# How long a busy machine takes to think of an example says nothing about the reader.
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(alphabet=st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@RELAXED
@given(st.dictionaries(st.text(alphabet="abc<~1", max_size=3), JSON, min_size=1, max_size=4))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    assert read(json.dumps(value)) == value


@RELAXED
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        documents = read_documents(text)
    except YamlError:
        return
    assert all(json.dumps(document.value, allow_nan=False) for document in documents)
