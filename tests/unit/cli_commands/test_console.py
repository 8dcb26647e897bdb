"""What is shown while something takes its time: on a terminal in place, elsewhere as a line."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import click
import pytest

from atoll_cli.commands.push import check_archive
from atoll_cli.console import print_view, spinner, text_table, transfer_progress
from atoll_cli.run_display import LiveDisplay, PlainDisplay
from atoll_operator.api.figures import DatasetStatus
from atoll_operator.api.status import Phase, RunStatus
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


def test_a_row_is_one_line_but_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = text_table(("NAME", "MESSAGE"), [("field", "a long message " * 20), ("note", "short")])
    print_view(table)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "MESSAGE"]
    assert first.count("a long message") == 20
    assert second == "note   short"
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    print_view(table)
    assert max(len(line) for line in click.unstyle(screen.getvalue()).splitlines()) == 40
    for columns, wide in (("40", True), ("10", False)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("COLUMNS", columns)
        print_view(table, wide=wide)
        assert len(screen.getvalue().splitlines()) == 3


def test_the_warnings_of_the_data_are_told_before_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = 'ignore "Ring" met no object; did you mean "ring"?'
    status = RunStatus(phase=Phase.TRAINING, dataset=DatasetStatus(digest="", warnings=(warning,)))
    plain = PlainDisplay()
    plain.status(RunStatus(phase=Phase.CONVERTING))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        plain.status(status)
    assert capsys.readouterr().err == f"warning: {warning}\n"
    screen = terminal(monkeypatch)
    with LiveDisplay() as live:
        live.status(status)
        live.status(status)
    assert screen.getvalue().count("did you mean") == 1
