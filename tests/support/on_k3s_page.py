"""The part of docs/install.md that shows a run of tests/e2e/on_k3s.sh: each command with the end of its output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
BEGIN = "<!-- written by a run of tests/e2e/on_k3s.sh -->\n"
END = "<!-- end of that run -->\n"
SHOWN_LINES = 3
LONGEST_LINE = 160


def block(log: str) -> str:
    """What the page shows of the script's log."""
    return "".join(f"{line}\n" for line in _shown(log))


def _shown(log: str) -> Iterator[str]:
    # The first part comes before any command.
    for part in re.split(r"^(?=\$ )", log, flags=re.MULTILINE)[1:]:
        command, *output = [line.rstrip() for line in part.splitlines() if line.strip()]
        yield command
        if len(output) > SHOWN_LINES:
            yield "…"
        for line in output[-SHOWN_LINES:]:
            yield line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def commands_of(log: str) -> list[str]:
    """The commands of a log or block, one a line; the folder that a release is pulled into bears the time."""
    typed = [line for line in log.splitlines() if line.startswith("$ ")]
    return [re.sub(r"-v1-\d+$", "-v1-TIME", " ".join(line.split())) for line in typed]


def shown_on_page() -> str:
    """The block that the page has."""
    _, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = rest.partition(END)[0]
    return "".join(f"{line[4:]}\n" for line in text.splitlines() if line.strip())


def write_to_page(log: str) -> None:
    """Puts the block of this log in the place of the one that is there."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.partition(END)[2]
    indented = "".join(f"    {line}\n" for line in block(log).splitlines())
    PAGE.write_text(f"{before}{BEGIN}\n{indented}\n{END}{after}", encoding="utf-8")
