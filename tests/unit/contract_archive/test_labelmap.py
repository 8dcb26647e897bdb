"""Label maps: the seed's exact layout, and a parser of text proto that no class name confuses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.labelmap import Label, LabelMapError, format_label_map, labels_text, parse_label_map, read_labels


def names_of(text: str) -> list[str]:
    return [label.name for label in parse_label_map(text)]


def test_layout_is_the_seeds_byte_for_byte() -> None:
    seed = 'item {\n\nid: 1\n\nname: "Cargo"\n\n}\n\nitem {\n\nid: 2\n\nname: "Hatchcover"\n\n}\n\n'
    assert format_label_map(["Cargo", "Hatchcover"]) == seed


def seeds_parser(text: str) -> list[str]:
    """How the Pi scripts of 2020 read the file: without the word item, split at braces, third line from the end."""
    parts = text.replace("item", "").replace(" ", "").replace("\n", "").split("}")
    return [part.split('"')[1] for part in parts if part]


def test_the_seeds_own_parser_reads_it() -> None:
    assert seeds_parser(format_label_map(["Cargo", "Hatchcover"])) == ["Cargo", "Hatchcover"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, max_size=8))
def test_any_names_survive(names: list[str]) -> None:
    text = format_label_map(names)
    assert names_of(text) == names
    assert len(text.split("\n")) == 8 * len(names) + 1


@pytest.mark.parametrize(
    "name", ["Power Cell", 'a "b"', "item {", "} item", "Game item x", "id: 7", "back\\slash", "# no"]
)
def test_names_that_broke_older_parsers(name: str) -> None:
    assert names_of(format_label_map(["first", name])) == ["first", name]


@pytest.mark.parametrize(
    "text",
    [
        "item { id: 1 name: 'note' }",
        'item{name:"note",id:1}',
        'item: < id: 1; name: "note"; >',
        '# a comment\nitem {\n  id: 1  # one\n  name: "no" "te"\n  display_name: "x }"\n}',
        'item { id: 1 name: "n\\157te" keypoints { id: 3 label: "}" } parts: [1, 2] }',
        '\ufeffitem { id: 1 name: "note" }'.removeprefix("\ufeff"),
    ],
)
def test_other_ways_to_write_the_same(text: str) -> None:
    assert parse_label_map(text) == (Label(1, "note"),)


def test_labels_are_ordered_by_id() -> None:
    assert names_of('item { id: 2 name: "b" } item { id: 1 name: "a" }') == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item { id: 1 }", "line 1 col 14: an item needs both id and name"),
        ('item { id: 0 name: "a" }', "line 1 col 12: id must be a number from 1"),
        ("item {\n id: 1\n name: a }", "line 3 col 8: name must be a quoted string"),
        ("labels { }", "line 1 col 1: expected item"),
        ('item { id: 1 name: "a"', "expected a field or }"),
        ('item { id: 1 name: "a', "unexpected"),
        ('item { id: 1 name: "a" } item { id: 1 name: "b" }', "stands there twice"),
        ('item { id: 1 name: "\\377" }', "not UTF-8"),
        ("item { id: 1 x }", "expected a value"),
    ],
)
def test_an_invalid_label_map_is_refused_with_line_and_column(text: str, words: str) -> None:
    with pytest.raises(LabelMapError) as caught:
        parse_label_map(text)
    assert words in str(caught.value)


@given(st.text("item{}<>id:name\"'\\ \n01#x[]", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        labels = parse_label_map(text)
    except LabelMapError:
        return
    assert all(label.id >= 1 for label in labels)


def test_a_name_in_a_list_never_becomes_two_lines(tmp_path: Path) -> None:
    names = ("Würfel", "red\nrobot", " c\td ")
    path = tmp_path / "labels.txt"
    path.write_text(labels_text(names), encoding="utf-8")
    assert read_labels(path) == ("Würfel", "red robot", "c d")
