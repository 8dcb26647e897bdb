"""docs/walkthrough.md is one road that holds together; `tests/e2e/test_walkthrough.py` walks it."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from atoll_cli.sample.files import ARCHIVES, VIDEOS
from atoll_edge.config_file import read_config
from support.command_lines import parse
from walkthrough.page import Command, File, commands, missing, parts, shape, shortened
from walkthrough.pictures import MOST_BYTES

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
TEXT = PAGE.read_text(encoding="utf-8")
MOST_HANDS_ON = 7
LOOP = "## The loop"
# What commands make that name no file.
MADE = {"sample": {*ARCHIVES, *VIDEOS}, "new": {"run.yaml"}}


@pytest.mark.parametrize("line", [command.line for command in commands(TEXT)])
def test_every_command_is_one_that_the_program_takes(line: str) -> None:
    parse(line)


def test_seven_commands_lead_from_the_camera_to_the_robot() -> None:
    sample, *first = commands(TEXT.partition(LOOP)[0])
    assert sample.line == "atoll sample field"
    assert 0 < len(first) <= MOST_HANDS_ON
    assert [command.line.split()[1] for command in first] == [
        "record",
        "frames",
        "push",
        "new",
        "run",
        "test-video",
        "run",
    ]
    assert "in seven commands" in TEXT.splitlines()[0]


def test_every_command_shows_what_it_printed() -> None:
    assert [command.line for command in commands(TEXT) if not command.output.strip()] == []


def test_what_a_command_reads_was_made_before_it() -> None:
    """By an earlier command, by the sample, or by the page's own file."""
    made: set[str] = set()
    for part in parts(TEXT):
        if isinstance(part, File):
            made.add(part.name)
        else:
            words = shlex.split(part.line)
            written = {words[number + 1] for number, word in enumerate(words) if word == "--to"}
            read = {word for word in words if re.search(r"\.(mp4|tar|yaml)$", word)} - written
            assert read <= made, part.line
            made |= written or MADE.get(words[1], set())


def test_the_robots_file_is_one_that_the_robot_reads(tmp_path: Path) -> None:
    (file,) = [part for part in parts(TEXT) if isinstance(part, File)]
    (tmp_path / file.name).write_text(file.text)
    assert read_config(tmp_path / file.name).harvest.enabled


def test_headings_follow_each_other_and_name_their_old_steps() -> None:
    numbered = re.findall(r"^## (\d+)\. .*?\(old steps? ([\d, –]+)\)$", TEXT, re.M)
    assert [int(number) for number, _ in numbered] == list(range(1, len(numbered) + 1))
    steps: set[int] = set()
    for _, listed in numbered:
        for part in listed.split(", "):
            first, _, last = part.partition("–")
            steps |= set(range(int(first), int(last or first) + 1))
    assert steps == set(range(1, 29))


def named_pictures() -> Sequence[Path]:
    return [PAGE.parent / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)]


@pytest.mark.parametrize("path", named_pictures(), ids=lambda path: path.name)
def test_pictures_are_small_and_whole(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as picture:
        picture.load()
        assert picture.width <= 1280


def test_no_picture_is_left_over() -> None:
    there = set((PAGE.parent / "images" / "walkthrough").iterdir())
    assert there == {path for path in named_pictures() if path.parent.name == "walkthrough"}


def test_lines_are_alike_but_for_their_figures() -> None:
    assert shape("train: 45% step 450/1000, loss 0.61, about 3 min left") == shape(
        "train: 5% step 9/400, loss 1.2, about 40 s left"
    )
    assert shape("AP50  +0.012") == shape("AP50   -0.3")
    good, poor = "all objects, 9 of 10 detections are right: may be used", "almost nothing (AP50 0.04): do not use it"
    assert shape(f"export: finds {good} (test AP50 0.9 int8)") == shape(f"export: finds {poor} (test AP50 0.1 int8)")
    assert shape(f"published as cells-v1: finds {good}") == shape(f"published as cells-v1: finds {poor}")
    assert shape("published cells-v1") != shape("could not publish cells-v1")


def test_a_line_that_is_not_printed_any_more_is_found() -> None:
    shown = "a 1\n…\nc 3\n"
    assert missing(shown, "a 9\nb\nc 4\n") is None
    assert missing(shown, "c 4\na 9\n") == "c 3"
    assert missing("x\n", "") == "x"


def test_a_line_that_the_page_does_not_show_is_found() -> None:
    assert missing("a 1\n", "a 2\nnew\n") == "new"
    assert missing("a 1\n…\n", "a 2\nnew\n") is None


def test_how_far_a_stage_is_depends_on_the_machine_and_counts_for_nothing() -> None:
    assert missing("publish: 20% 9 files\ndone\n", "train: 7% training, step 9/400\ndone\n") is None


def test_a_long_output_is_shortened_to_what_differs() -> None:
    lines = "".join(f"train: {number}%\n" for number in range(50))
    assert shortened(f"begin\n{lines}end\n") == "begin\ntrain: 0%\n…\ntrain: 49%\nend\n"


def test_a_block_holds_one_command() -> None:
    assert len(commands(TEXT)) == TEXT.count("```console")
    assert all(isinstance(part, Command | File) for part in parts(TEXT))
