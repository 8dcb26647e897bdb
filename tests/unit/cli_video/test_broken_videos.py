"""What `atoll frames` and `atoll record` say of files that are no videos: which, what is wrong, what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_cli.main import main
from atoll_contract.errors import ExitCode
from atoll_contract.video import video_problem
from support.broken_videos import BROKEN, empty
from support.videos import numbered, write_video

KINDS = pytest.mark.parametrize(("make", "sentence"), BROKEN.values(), ids=BROKEN)


def require_sentence(errors: str, path: Path, sentence: str) -> None:
    assert f"{path}: {sentence}" in errors
    assert "Invalid data" not in errors
    assert "Traceback" not in errors


@KINDS
def test_frames_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], sentence: str
) -> None:
    path = make(tmp_path / "match.mp4")
    assert main(["frames", str(path), "--to", str(tmp_path / "out")]) == ExitCode.DATASET_MALFORMED
    require_sentence(capsys.readouterr().err, path, sentence)


@KINDS
def test_record_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], sentence: str
) -> None:
    path, out = make(tmp_path / "match.mp4"), tmp_path / "out.mp4"
    assert main(["record", str(path), "--to", str(out)]) == ExitCode.INVALID_SPEC
    require_sentence(capsys.readouterr().err, path, sentence)
    assert not out.exists()


def test_frames_goes_on_with_the_other_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty(tmp_path / "a.mp4")
    write_video(tmp_path / "b.mp4", (numbered(n) for n in range(10)))
    main(["frames", str(tmp_path), "--to", str(tmp_path / "out"), "--max-blur", "1"])
    assert "could not be read at all: the file is empty (0 bytes)" in capsys.readouterr().out


def test_a_video_that_ends_after_its_index_says_that_no_frame_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = tmp_path / "recorded.mp4"
    write_video(tmp_path / "whole.mp4", (numbered(n) for n in range(20)))
    assert main(["record", str(tmp_path / "whole.mp4"), "--to", str(recorded)]) == 0
    data = recorded.read_bytes()
    recorded.write_bytes(data[: data.index(b"moof") - 4])
    for command in (["frames", str(recorded), "--to", str(tmp_path / "o")], ["record", str(recorded), "--to", "x.mp4"]):
        assert main(command) != 0
        assert f"{recorded}: there is no frame in it that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts", "a.flv"])
def test_a_video_is_none_of_these(tmp_path: Path, name: str) -> None:
    assert video_problem(write_video(tmp_path / name, (numbered(n) for n in range(10)))) == ""
