"""`atoll record` against a network camera and files: limits, signals, `kill -9`, lost streams, refusals."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest

from atoll_cli.console import FAILED
from atoll_cli.main import main
from atoll_contract.errors import ExitCode
from support.network_camera import PACE, network_camera
from support.polling import wait_until
from support.videos import Picture, number_in, numbered, numbers, pixels, read_video, write_video

ONE_SECOND = round(1 / PACE)


@contextmanager
def recording(*arguments: str, preexec: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[str]]:
    """`atoll record` as a process of its own, gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "atoll_cli.main", "record", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def playable(path: Path) -> list[int]:
    """The numbers of the frames that play now; none while there is no whole fragment yet."""
    try:
        return numbers(path)
    except (FileNotFoundError, av.FFmpegError, IndexError):
        return []


@pytest.fixture
def video_file(tmp_path: Path) -> Path:
    """Six seconds of numbered pictures, ten a second."""
    return write_video(tmp_path / "film.mp4", (numbered(n) for n in range(60)))


def test_killed_with_kill_9_the_file_plays_up_to_the_last_second(tmp_path: Path) -> None:
    path, sent = tmp_path / "match.mp4", 3 * ONE_SECOND
    with network_camera(burst=sent) as camera, recording(camera.url, "--to", str(path)) as process:
        wait_until(lambda: len(playable(path)) >= sent - ONE_SECOND, what="all but the last second")
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
    frames = numbers(path)
    assert frames == list(range(len(frames)))
    assert len(frames) >= sent - ONE_SECOND


def test_cut_anywhere_the_file_plays_up_to_the_last_whole_fragment(video_file: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    assert main(["record", str(video_file), "--to", str(whole)]) == 0
    data = whole.read_bytes()
    for share in (0.4, 0.7, 0.95):
        cut = tmp_path / f"cut-{share}.mp4"
        cut.write_bytes(data[: int(len(data) * share)])
        with av.open(str(cut)) as container:
            shown = _until_it_breaks(container.decode(video=0))
        assert shown == list(range(len(shown)))
        assert len(shown) >= 60 * share - 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path, sent = tmp_path / "match.mp4", ONE_SECOND * 2
    with network_camera(burst=sent) as camera, recording(camera.url, "--to", str(path), "-o", "json") as process:
        wait_until(lambda: len(playable(path)) >= ONE_SECOND, what="a second that plays")
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    document = json.loads(output)
    assert document["ending"] == "stopped"
    frames = numbers(path)
    assert frames == list(range(document["frames"]))
    assert document["size"] == path.stat().st_size
    assert "open-sesame" not in output + errors


def test_frame_times_are_those_of_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "match.mp4"
    with network_camera(burst=ONE_SECOND * 5) as camera:
        assert main(["record", camera.url, "--to", str(path), "--time-limit", "2s"]) == 0
        times = [at for at, _ in read_video(path)]
    assert times[0] == 0
    assert times[-1] < 2
    # FFmpeg gives an MJPEG stream 25 frames a second, whatever it sends; this camera sends at most 20, but for the
    # first few, which come at once after the library has looked at them.
    assert len(times) <= 2 * ONE_SECOND + 5


def test_a_stream_that_hangs_up_continues_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "match.mp4"
    with network_camera(burst=5, hang_up=True) as camera, recording(camera.url, "--to", str(path)) as process:
        wait_until(lambda: camera.connections >= 4, what="a fourth connection")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    frames = numbers(path)
    assert frames == sorted(set(frames))
    assert frames[-1] >= 10


def test_a_stream_that_stays_away_ends_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "match.mp4"
    with (
        network_camera(burst=10, hang_up=True) as camera,
        recording(camera.url, "--to", str(path), "--patience", "1s") as process,
    ):
        wait_until(lambda: camera.connections >= 2, what="a second connection")
        camera.close()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == FAILED
    assert "ended: source lost" in output
    assert numbers(path)[:10] == list(range(10))


def test_the_time_limit_ends_the_recording(
    video_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.mp4"
    assert main(["record", str(video_file), "--to", str(path), "--time-limit", "2s"]) == 0
    assert numbers(path) == list(range(20))
    assert "20 frames in 1.9 s, 192x96" in capsys.readouterr().out


def test_the_size_limit_holds_and_the_file_plays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = write_video(tmp_path / "noise.avi", _noise(80), codec="mjpeg")
    path = tmp_path / "small.mp4"
    assert main(["record", str(noise), "--to", str(path), "--size-limit", "300kB", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ending"] == "size limit"
    assert 150_000 < path.stat().st_size <= 300_000
    assert len(read_video(path)) == document["frames"]


def test_a_full_disk_ends_it_with_a_sentence_and_a_file_that_plays(tmp_path: Path) -> None:
    noise = write_video(tmp_path / "noise.avi", _noise(80), codec="mjpeg")
    path = tmp_path / "full.mp4"

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    with recording(str(noise), "--to", str(path), preexec=small_disk) as process:
        _, errors = process.communicate(timeout=40)
    assert process.returncode == FAILED
    assert "File too large" in errors
    assert "Traceback" not in errors
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).width == 192


def test_an_existing_file_is_never_overwritten(video_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = video_file.read_bytes()
    assert main(["record", str(video_file), "--to", str(video_file)]) == ExitCode.INVALID_SPEC
    assert "never overwrites" in capsys.readouterr().err
    assert video_file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.mp4"], "nothing.mp4: no such file"),
        (["ftp://host/x"], "ftp://host/x: not a stream"),
        (["/dev/video99"], "camera /dev/video99: No such file"),
        (["http://user:secret@127.0.0.1:9/x"], "http://127.0.0.1:9/x: "),
        (["0", "--to", "x.avi"], "a recording is an .mp4"),
        (["0", "--size-limit", "5kB"], "100000 is the least"),
        (["0", "--time-limit", "soon"], "'soon' is no duration"),
        (["0", "--size", "big"], "'big' is no size of a picture"),
    ],
)
def test_a_mistake_ends_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["record", *arguments]) != 0
    errors = capsys.readouterr().err
    assert sentence in errors
    assert "secret" not in errors
    assert not list(tmp_path.iterdir())


def test_a_text_is_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.mp4"
    notes.write_text("nothing to see")
    assert main(["record", str(notes), "--to", str(tmp_path / "out.mp4")]) == ExitCode.INVALID_SPEC
    assert "nothing was recorded" in capsys.readouterr().err


def test_a_window_without_a_screen_is_refused_before_anything_is_recorded(
    video_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    path = tmp_path / "out.mp4"
    assert main(["record", str(video_file), "--to", str(path), "--window"]) == ExitCode.INVALID_SPEC
    assert "--window needs a screen" in capsys.readouterr().err
    assert not path.exists()


def _until_it_breaks(frames: Iterator[av.VideoFrame]) -> list[int]:
    shown = []
    with suppress(av.FFmpegError):
        for frame in frames:
            shown.append(number_in(pixels(frame)))  # noqa: PERF401
    return shown


def _noise(count: int) -> Iterator[Picture]:
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield generator.integers(0, 255, (96, 192, 3), dtype=np.uint8)
