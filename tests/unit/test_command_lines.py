"""Every command line of `atoll` and `atoll-edge` on the pages is one that the program takes; nothing is run."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from atoll_cli.command_table import COMMANDS
from support.command_lines import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), *ROOT.glob("charts/*/README.md")])
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
TYPED = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ +)*(?:\S*/|kubectl )?(atoll(?:-edge)? +[a-z][a-z-]*.*)$")
# What stands for something else: a choice, a part that may be left out, words that are not shown.
PLACEHOLDERS = re.compile(r"[…\[\]<>|$]|\.\.\.|\bPROGRAM\b")
# A word of prose begins with the program's name, too.
PROSE = re.compile(r"^atoll(-edge)? (v?\d|is\b|and\b)")


def lines(page: Path) -> Iterator[str]:
    """What is typed on the page: indented lines and those of blocks, as a whole; and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    plain = FENCE.sub("", text)
    blocks = "\n".join([*FENCE.findall(text), *re.findall(r"^ {4}.*$", plain, re.M)]).replace("\\\n", " ")
    for line in [*blocks.splitlines(), *re.findall(r"`([^`\n]+)`", plain)]:
        for part in re.split(r" && | \| |; ", line.partition(" #")[0]):
            found = TYPED.match(part.strip())
            if found and not PLACEHOLDERS.search(found[1]) and not PROSE.match(found[1]):
                yield re.sub(r"\bN$", "2", found[1].strip())


ALL = sorted({(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in lines(page)})


def parse_part(line: str) -> None:
    """Like `parse`; what a page leaves out in a sentence may be missing, such as the run of `atoll report`."""
    try:
        parse(line)
    except (click.MissingParameter, click.BadOptionUsage, click.exceptions.Exit):
        return
    except SystemExit as error:
        program, *words = line.split()
        if error.code == 0 or len(words) != 1:
            raise
        parse(f"{program} {words[0]} --help")


@pytest.mark.parametrize(("page", "line"), ALL)
def test_the_program_takes_the_line(page: str, line: str) -> None:
    refusal = ""
    try:
        parse_part(line)
    except click.ClickException as error:
        refusal = error.format_message()
    except SystemExit as error:
        # The help of a command ends so.
        refusal = "" if error.code == 0 else "argparse refuses it"
    assert refusal == "", f"{page}: {line}"


def test_a_wrong_line_is_found() -> None:
    for line in ("atoll run run.yaml --steps 3", "atoll sample feild", "atoll retry RUN --stage trian"):
        with pytest.raises(click.ClickException):
            parse_part(line)
    with pytest.raises(SystemExit, match="2"):
        parse_part("atoll-edge selftset")


def test_the_pages_show_every_command() -> None:
    shown = {line.split()[1] for _, line in ALL if line.startswith("atoll ")}
    assert set(COMMANDS) <= shown | {"help", "version", "completion"}
    assert any("--workers" in line for _, line in ALL)
    assert any(line.startswith("atoll sweep") for page, line in ALL if page == "docs/cli.md")
    assert len(ALL) > 150
