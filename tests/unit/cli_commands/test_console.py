"""What is shown while something takes its time: on a terminal in place, elsewhere as a line."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from atoll_cli.commands.push import check_archive
from atoll_cli.console import spinner, transfer_progress
from support.archives import jpeg


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error from here on."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_on_a_terminal_the_time_that_passes_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with spinner("checking [pictures].tar (1.2 GB)"):
        pass
    assert "checking [pictures].tar (1.2 GB)" in screen.getvalue()
    assert "0:00:00" in screen.getvalue()


def test_a_file_name_in_brackets_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with transfer_progress("[pictures].tar", 10) as transferred:
        transferred(10)
    assert "[pictures].tar" in screen.getvalue()


def test_push_says_that_it_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.zip"
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in range(8)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 30, 30]} for n in range(8)]
    with zipfile.ZipFile(path, "w") as archive:
        document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "note"}]}
        archive.writestr("annotations.json", json.dumps(document))
        for number in range(8):
            archive.writestr(f"{number}.jpg", jpeg(number))
    check_archive(path)
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0].startswith(f"checking {path} (")
    assert "8 pictures" in printed.out
