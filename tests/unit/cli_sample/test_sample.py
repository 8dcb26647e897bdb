"""`atoll sample field`: four files that other commands take, and none that is overwritten or half made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import atoll_cli.sample.files
from atoll_cli.main import main
from atoll_contract.errors import SpecError
from support.videos import read_video

FILES = ["field.tar", "harvest.tar", "camera.mp4", "match.mp4"]
SMALL = ["--pictures", "8", "--size", "96x72"]
FRAMES = 11


@pytest.fixture(autouse=True)
def _short_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atoll_cli.sample.files, "VIDEO_FRAMES", FRAMES)


def test_the_folder_has_archives_and_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "robot"
    assert main(["sample", "field", "--to", str(folder), *SMALL, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [item["file"] for item in document["archives"] + document["videos"]] == FILES
    assert [item["pictures"] for item in document["archives"]] == [8, 2]
    for video in document["videos"]:
        frames = read_video(folder / video["file"])
        assert (len(frames), video["frames"], video["seconds"]) == (FRAMES, FRAMES, 1.1)
        assert frames[0][1].shape == (72, 96, 3)
        assert frames[-1][0] == pytest.approx(1.0)


def test_it_works_where_it_is_called_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "field", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("field.tar: 8 pictures with labels (")
    assert lines[2] == "camera.mp4: 11 frames, 1.1 s"
    assert lines[-1] == "next: atoll new field.tar"


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_overwritten(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["sample", "field", "--to", str(tmp_path), *SMALL]) == 20
    assert f"{tmp_path / name} exists already and is not overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_nothing_half_made_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_work: Path, _name: str, _rate: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atoll_cli.sample.files, "_encode_video", fail)
    assert main(["sample", "field", "--to", str(tmp_path), *SMALL]) != 0
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise SpecError("videos need the package av")

    monkeypatch.setattr(atoll_cli.sample.files, "load_av", missing)
    assert main(["sample", "field", "--to", str(tmp_path / "new"), *SMALL]) == 20
    assert "videos need the package av" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beach"], "'beach' is not"),
        (["field", "--size", "40x30"], "40x30: each side is 64 to 4096 pixels"),
        (["field", "--pictures", "7"], "7 is not in the range"),
        (["field", "--seed", "-1"], "-1 is not in the range"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", *arguments, "--to", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
