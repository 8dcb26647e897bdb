"""The road of docs/walkthrough.md is walked: every command runs, and prints what the page shows but for figures.

The first training takes a smaller detector and fewer steps than the page, which was written by `make walkthrough`.
"""

from pathlib import Path

import pytest

from walkthrough.page import PAGE, missing, parts
from walkthrough.road import Road


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    road = Road(tmp_path, quick=True)
    parted = [
        (command.line, line)
        for command in road.walk(parts(PAGE.read_text(encoding="utf-8")))
        if (line := missing(command.output, road.outputs[command.line])) is not None
    ]
    assert parted == []
