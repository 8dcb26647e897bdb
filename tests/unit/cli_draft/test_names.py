"""Names of runs and models, from whatever an archive is called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_cli.draft.draft import MAX_NAME, free_name, model_name

ALLOWED = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        ("field-sample.tar", "field-sample"),
        ("datasets/team-190/Reefscape 2025.tar.gz", "reefscape-2025"),
        ("datasets/team-190/practice/", "practice"),
        ("frc_notes.v4i.coco.zip", "frc-notes-v4i-coco"),
        ("._тест.tar", "detector"),
        ("2026.tgz", "2026"),
        ("a" * 60 + ".tar", "a" * 40),
    ],
)
def test_a_name_comes_from_the_archive(archive: str, name: str) -> None:
    assert model_name([archive]) == name


@given(st.text(max_size=80))
def test_every_name_is_one_that_the_api_takes(archive: str) -> None:
    name = model_name([archive])
    assert ALLOWED.fullmatch(name)
    assert len(name) <= MAX_NAME


def test_a_taken_name_gets_the_next_number() -> None:
    assert free_name("note", set()) == "note"
    assert free_name("note", {"note", "note-2"}) == "note-3"
    longest = "n" * MAX_NAME
    assert free_name(longest, {longest}) == "n" * 38 + "-2"
