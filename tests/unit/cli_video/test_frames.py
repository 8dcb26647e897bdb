"""`atoll frames` on videos of known passages: what is kept, what is dropped, and that every frame is accounted for."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoll_cli.main import main
from atoll_cli.video import extract as extraction
from atoll_cli.video.reader import Sample
from atoll_cli.video.select import SampleFigures, measure
from atoll_contract.errors import ExitCode
from atoll_stages.convert.frames import frame_group
from support.videos import Picture, turn, write_video

RATE = 10
SIZE = (480, 640)


def scene(seed: int, *, at: int = 0) -> Picture:
    """A field of coloured boxes, and a ball that is `at` pixels from the left."""
    generator = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), 90, np.uint8)
    for _ in range(60):
        y, x = generator.integers(0, SIZE[0] - 60), generator.integers(0, SIZE[1] - 60)
        height, width = generator.integers(10, 60, 2)
        image[y : y + height, x : x + width] = generator.integers(0, 255, 3)
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    image[(rows - 240) ** 2 + (columns - 60 - at) ** 2 < 40**2] = (250, 120, 10)
    return image


def noisy(image: Picture, seed: int) -> Picture:
    """The same image, as a camera's sensor sees it another time."""
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def smeared(image: Picture, *, over: int = 40) -> Picture:
    """The image as a turning robot sees it."""
    turned = [np.roll(image, shift, axis=1).astype(np.float32) for shift in range(over)]
    return np.asarray(np.mean(turned, axis=0), np.uint8)


def moving() -> Iterator[Picture]:
    """Three seconds: the ball rolls on by its own width in half a second."""
    for n in range(30):
        yield noisy(scene(1, at=16 * n), n)


def still() -> Iterator[Picture]:
    """Four seconds of one image and a sensor's noise."""
    for n in range(40):
        yield noisy(scene(2), 100 + n)


def blurred() -> Iterator[Picture]:
    """Three seconds of turning."""
    for n in range(30):
        yield noisy(smeared(np.roll(scene(3), 40 * n, axis=1)), 200 + n)


def repeated() -> Iterator[Picture]:
    """The moving passage once more, seen by another noise and in other light."""
    for n in range(30):
        brighter = np.clip(scene(1, at=16 * n).astype(np.int16) + 15, 0, 255).astype(np.uint8)
        yield noisy(brighter, 300 + n)


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen seconds: moving, still, blurred, repeated."""
    path = tmp_path_factory.mktemp("films") / "Qualification 12.mp4"
    return write_video(path, (p for part in (moving(), still(), blurred(), repeated()) for p in part), rate=RATE)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def outcomes(table: list[dict[str, str]], start: float, end: float) -> Counter[str]:
    return Counter(row["fate"] for row in table if start <= float(row["seconds"]) < end)


def test_still_passages_give_one_frame_and_blurred_ones_none(
    video_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["frames", str(video_file), "--to", str(out)]) == 0
    table = rows(out)
    assert outcomes(table, 0, 3) == {"kept": 6}
    assert outcomes(table, 3, 7) == {"kept": 1, "near-duplicate": 7}
    assert outcomes(table, 7, 10) == {"blurred": 6}
    assert outcomes(table, 10, 13) == {"near-duplicate": 6}
    assert (
        "Qualification-12: 7 of 130 frames kept; left out: 104 between the samples (2 a second), 6 blurred, "
        "13 near-duplicates\n"
    ) in capsys.readouterr().out


def test_a_terminal_shows_that_frames_are_read(video_file: Path, tmp_path: Path) -> None:
    terminal, inner = pty.openpty()
    command = [sys.executable, "-P", "-m", "atoll_cli.main", "frames", str(video_file), "--to", str(tmp_path / "out")]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=inner, env=environ)
    os.close(inner)
    shown = b""
    # The terminal ends with an error when its last user has closed it.
    with suppress(OSError):
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert process.wait(60) == 0
    # 26 samples are measured; the seven that are kept are the first seven, and read once more.
    numbers = [int(number) for number in re.findall(rb"samples read.*?([0-9]+)/", shown)]
    assert numbers[0] < numbers[-1] == 26 + 7


def test_the_numbers_of_the_report_add_up(video_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["frames", str(video_file), "--to", str(out), "-o", "json"]) == 0
    document = json.loads((out / "frames.json").read_text(encoding="utf-8"))
    assert document == json.loads(capsys.readouterr().out)
    assert document["settings"] == {"rate": 2.0, "maxBlur": 0.2, "minChange": 0.01}
    counts = {"frames": 130, "betweenSamples": 104, "blurred": 6, "nearDuplicates": 13, "kept": 7}
    assert document["total"] == counts
    [video] = document["videos"]
    limit = video.pop("blurLimit")
    assert video == {"name": "Qualification-12", "file": video_file.name, **counts, "problem": ""}
    assert len(rows(out)) == counts["frames"] - counts["betweenSamples"]
    kept = {row["file"].rpartition("/")[2] for row in rows(out) if row["file"]}
    for row in rows(out):
        if row["fate"] == "blurred":
            assert float(row["blur"]) > limit
        else:
            assert float(row["blur"]) <= limit
        if row["fate"] == "near-duplicate":
            assert row["like"] in kept
            assert float(row["change"]) < 0.01


def test_a_video_that_is_blurred_from_end_to_end_gives_nothing(video_file: Path, tmp_path: Path) -> None:
    alone = write_video(tmp_path / "turning.mp4", blurred(), rate=RATE)
    assert main(["frames", str(alone), "--to", str(tmp_path / "out")]) == ExitCode.NO_USABLE_EXAMPLES
    assert outcomes(rows(tmp_path / "out"), 0, 3) == {"blurred": 6}
    assert main(["frames", str(alone), str(video_file), "--to", str(tmp_path / "both")]) == 0
    assert Counter(row["fate"] for row in rows(tmp_path / "both") if row["video"] == "turning") == {"blurred": 6}


def test_the_folder_of_images_holds_images_and_nothing_else(video_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["frames", str(video_file), "--to", str(out)])
    files = sorted(path for path in (out / "images").rglob("*") if path.is_file())
    assert [str(path.relative_to(out)) for path in files] == [row["file"] for row in rows(out) if row["file"]]
    assert files[0] == out / "images/Qualification-12/Qualification-12_000000.jpg"
    for path in files:
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (640, 480), "RGB")


def test_frames_of_one_video_stay_together_in_the_split(tmp_path: Path) -> None:
    for name, seed in (("match1.mp4", 10), ("match2.mp4", 20)):
        write_video(tmp_path / name, (scene(seed, at=16 * n) for n in range(30)), rate=RATE)
    out = tmp_path / "out"
    assert main(["frames", str(tmp_path), "--to", str(out), "--flat"]) == 0
    groups: dict[str, set[str]] = {}
    for path in (out / "images").iterdir():
        groups.setdefault(path.name.split("_")[0], set()).add(frame_group(path.name))
    assert sorted(groups) == ["match1", "match2"]
    assert all(len(clusters) == 1 for clusters in groups.values())
    assert not groups["match1"] & groups["match2"]


def test_a_passage_repeated_in_another_video_is_a_duplicate(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", (noisy(scene(5), n) for n in range(20)), rate=RATE)
    write_video(tmp_path / "b.mp4", (noisy(scene(5), 50 + n) for n in range(20)), rate=RATE)
    out = tmp_path / "out"
    assert main(["frames", str(tmp_path), "--to", str(out)]) == 0
    assert [(row["video"], row["fate"]) for row in rows(out)] == [
        ("a", "kept"),
        *[("a", "near-duplicate")] * 3,
        *[("b", "near-duplicate")] * 4,
    ]


def test_videos_of_the_same_name_get_names_of_their_own(tmp_path: Path) -> None:
    for number, name in enumerate(("mon/a.mp4", "tue/a.mp4", "tue/A.avi", "tue/ball no. 3.mp4")):
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [scene(30 + number)] * 3, rate=RATE)
    out = tmp_path / "out"
    assert main(["frames", str(tmp_path / "films"), "--to", str(out)]) == 0
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "ball-no.-3",
        "mon-a-mp4",
        "tue-A-avi",
        "tue-a-mp4",
    ]


def test_a_file_that_is_no_video_is_named_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "films"
    videos.mkdir()
    (videos / "broken.mp4").write_text("#EXTM3U\nfile:///etc/hostname\n")
    write_video(videos / "good.mp4", [scene(7)] * 5, rate=RATE)
    out = tmp_path / "out"
    assert main(["frames", str(videos), "--to", str(out)]) == 0
    assert "could not be read at all" in capsys.readouterr().out
    document = json.loads((out / "frames.json").read_text(encoding="utf-8"))
    assert [bool(video["problem"]) for video in document["videos"]] == [True, False]
    assert document["total"]["kept"] == 1


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(video_file: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    assert main(["record", str(video_file), "--to", str(whole), "--time-limit", "3s"]) == 0
    data = whole.read_bytes()
    # Within the pictures of the last fragment: its index promises more than there is.
    cut.write_bytes(data[: data.rindex(b"mdat") + 5000])
    out = tmp_path / "out"
    assert main(["frames", str(cut), "--to", str(out)]) == 0
    document = json.loads((out / "frames.json").read_text(encoding="utf-8"))
    assert 25 <= document["total"]["frames"] < 30
    assert document["total"]["kept"] >= 5


def test_a_damaged_video_is_read_around_the_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "damaged.mp4", (scene(5, at=16 * n) for n in range(20)), rate=RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 3] = bytes(len(data) // 3)
    path.write_bytes(bytes(data))
    out = tmp_path / "out"
    assert main(["frames", str(path), "--to", str(out)]) == 0
    document = json.loads((out / "frames.json").read_text(encoding="utf-8"))
    assert 0 < document["total"]["frames"] < 20
    assert "damaged pieces" in document["videos"][0]["problem"]
    assert "could not be read as a whole" in capsys.readouterr().out


def test_a_video_that_cannot_be_read_a_second_time_is_an_error(
    video_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures are written in a second reading: what the report names has to be there."""
    copy = tmp_path / video_file.name
    copy.write_bytes(video_file.read_bytes())

    def and_shorten(sample: Sample) -> SampleFigures:
        copy.write_bytes(b"")
        return measure(sample)

    monkeypatch.setattr(extraction, "measure", and_shorten)
    assert main(["frames", str(copy), "--to", str(tmp_path / "out")]) == 1
    assert "was read once and not a second time" in capsys.readouterr().err
    assert not (tmp_path / "out" / "frames.json").exists()


def test_a_rotated_video_gives_upright_images(tmp_path: Path) -> None:
    path = write_video(tmp_path / "phone.mp4", [scene(8)] * 5, rate=RATE)
    turn(path, height=SIZE[0])
    out = tmp_path / "out"
    assert main(["frames", str(path), "--to", str(out)]) == 0
    with Image.open(out / "images/phone/phone_000000.jpg") as image:
        assert image.size == (480, 640)
        shown = np.asarray(image)
    expected = np.rot90(scene(8), k=-1)
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_nothing_sharp_is_an_error_with_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dark = write_video(tmp_path / "dark.mp4", [np.zeros((*SIZE, 3), np.uint8)] * 20, rate=RATE)
    out = tmp_path / "out"
    assert main(["frames", str(dark), "--to", str(out)]) == ExitCode.NO_USABLE_EXAMPLES
    output = capsys.readouterr()
    assert "try a higher --max-blur" in output.out
    assert "no frame is worth labelling" in output.err
    assert [row["blur"] for row in rows(out)] == ["1.000"] * 4


def test_a_folder_that_is_not_empty_is_refused(
    video_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "label.txt").write_text("mine")
    assert main(["frames", str(video_file), "--to", str(tmp_path)]) == ExitCode.INVALID_SPEC
    assert "the folder is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["label.txt"]


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (None, 2, "there is no file "),
        ({}, ExitCode.INVALID_SPEC, "no video; known are .mp4"),
        ({"a.mp4": "text"}, ExitCode.DATASET_MALFORMED, "no video could be read"),
    ],
)
def test_a_mistake_ends_in_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: dict[str, str] | None,
    code: int,
    sentence: str,
) -> None:
    videos = tmp_path / "films"
    if content is not None:
        videos.mkdir()
        for name, text in content.items():
            (videos / name).write_text(text)
    assert main(["frames", str(videos), "--to", str(tmp_path / "out")]) == code
    assert sentence in capsys.readouterr().err
