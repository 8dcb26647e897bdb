"""The page as a program reads it: blocks with one command and what it printed, and files.

A block is fenced by ```console, its first line is `$ command`; a line `…` stands for lines that were left out. Files
are fenced by ```yaml and begin with `# name.yaml`.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
LEFT_OUT = "…"
# An output with more lines is shortened to its first and last ones.
MOST_LINES, FIRST, LAST = 40, 18, 20

_PART = re.compile(
    r"^```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)^```$"
    r"|^```yaml\n# (?P<file>[a-z-]+\.yaml)[^\n]*\n(?P<text>.*?)^```$",
    re.M | re.S,
)
_TIME = re.compile(r"\b\d+ h \d+ min\b|\b\d+ min(?: \d+ s)?\b|\b\d+(?:\.\d+)? s\b")
# What a model finds depends on the training, and a quick one finds less.
_ASSESSMENT = re.compile(r"\bfinds (?=almost nothing|all |\d).*?(?= \(\w+ AP50 |$)")
_NUMBER = re.compile(r"[+-]?\d[\d.,:]*")
_PROGRESS = re.compile(r"(convert|train|export|compile|publish): \d+% ")
_DIGEST = re.compile(r"\b[0-9a-f]{12,}\b")


@dataclass(frozen=True)
class Command:
    line: str
    output: str


@dataclass(frozen=True)
class File:
    name: str
    text: str


Part = Command | File


def parts(text: str) -> Iterator[Part]:
    """Commands and files in the order of the page."""
    for found in _PART.finditer(text):
        if found["command"]:
            yield Command(found["command"], found["output"])
        else:
            yield File(found["file"], found["text"])


def commands(text: str) -> list[Command]:
    return [part for part in parts(text) if isinstance(part, Command)]


def with_outputs(text: str, output_of: Callable[[str], str]) -> str:
    """The page with the output of each command anew."""

    def replaced(found: re.Match[str]) -> str:
        command = found["command"]
        if not command:
            return found[0]
        return f"```console\n$ {command}\n{shortened(output_of(command))}```"

    return _PART.sub(replaced, text)


def shortened(output: str) -> str:
    """Of lines that differ in figures only the first and the last; of a long rest its ends."""
    lines: list[str] = []
    for _, group in itertools.groupby(output.rstrip("\n").splitlines(), key=shape):
        alike = list(group)
        lines += alike if len(alike) < 4 else [alike[0], LEFT_OUT, alike[-1]]
    if len(lines) > MOST_LINES:
        lines = [*lines[:FIRST], LEFT_OUT, *lines[-LAST:]]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def shape(line: str) -> str:
    """A line without what differs from one time to the next: times, figures, assessments, digests, column widths."""
    timeless = _TIME.sub("TIME", _DIGEST.sub("DIGEST", _ASSESSMENT.sub("ASSESSMENT", line)))
    return " ".join(_NUMBER.sub("#", timeless).split())


def missing(shown: str, actual: str) -> str | None:
    """The first line of the page that the command does not print any more, or not in this place; or a line that it
    prints and the page does not show, where it leaves nothing out. None where both are alike."""
    printed, page = _lasting(actual), _lasting(shown)
    found = iter([shape(line) for line in printed])
    for line in page:
        if line != LEFT_OUT and shape(line) not in found:
            return line
    if LEFT_OUT in page:
        return None
    known = {shape(line) for line in page}
    return next((line for line in printed if shape(line) not in known), None)


def _lasting(output: str) -> list[str]:
    """The lines but for those that only a slow or a fast machine prints: how far a stage is, every ten seconds."""
    return [line for line in output.splitlines() if line.strip() and not _PROGRESS.match(line)]
