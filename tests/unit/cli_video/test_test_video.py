"""`atoll test-video` with a detector whose answers are known: every frame is drawn, counted and timed as it should."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atoll_cli.main import main
from atoll_contract.document import replace
from atoll_contract.errors import ExitCode
from atoll_contract.labelmap import format_label_map
from atoll_contract.store import directory_store, open_store
from atoll_edge.video.__main__ import main as edge_main
from support.broken_videos import BROKEN
from support.edge_model import CELLS, LABELS, colour_detector, write_model
from support.edge_release import publish
from support.polling import wait_until
from support.videos import Picture, read_video, turn, write_video

pytestmark = pytest.mark.timeout(300)

RATE = 10
WIDTH, HEIGHT = 256, 192
RED, BLUE = (255, 0, 0), (0, 0, 255)
# By construction of the detector this red has a score of about one half: sigmoid(4 (r - g - b) - 6).
PALE_RED = (255, 96, 96)


def scene(*squares: tuple[tuple[int, int], tuple[int, int, int]]) -> Picture:
    """Grey, with squares that fill cells (row, column) of the detector."""
    picture = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    for (row, column), colour in squares:
        rows = slice(row * HEIGHT // CELLS, (row + 1) * HEIGHT // CELLS)
        columns = slice(column * WIDTH // CELLS, (column + 1) * WIDTH // CELLS)
        picture[rows, columns] = colour
    return picture


def video_frames() -> Iterator[Picture]:
    """A second of red, a second of red and blue, half a second of nothing, one pale frame, nothing."""
    yield from [scene(((2, 4), RED))] * 10
    yield from [scene(((2, 4), RED), ((5, 1), BLUE))] * 10
    yield from [scene()] * 5
    yield scene(((6, 6), PALE_RED))
    yield from [scene()] * 4


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(tmp_path / "match.mp4", video_frames(), rate=RATE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return write_model(folder)[0]


def tried(model: Path, film: Path, output: Path, *options: str) -> dict[str, Any]:
    """What the edge's program says, which must succeed."""
    output.mkdir()
    named = ["--model", str(model), "--film", film.stem, str(film), "--output", str(output)]
    assert edge_main([*named, *options]) == 0
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return summary


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "detections.csv").open() as file:
        return list(csv.DictReader(file))


def tarball(path: Path, members: dict[str, bytes], source: Path) -> Path:
    """A gzipped tar of files made in `source`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            file = source / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            archive.add(file, name)
    return path


def test_every_detection_is_in_the_table_with_its_pixels(tmp_path: Path, film: Path, model: Path) -> None:
    tried(model, film, tmp_path / "out")
    found = rows(tmp_path / "out")
    red = [row for row in found if row["label"] == "red" and int(row["frame"]) < 20]
    assert [int(row["frame"]) for row in red] == list(range(20))
    assert [float(row["seconds"]) for row in red] == pytest.approx([n / RATE for n in range(20)], abs=0.001)
    assert [int(row["frame"]) for row in found if row["label"] == "blue"] == list(range(10, 20))
    box = [float(red[0][name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    assert box == pytest.approx([4 * 32, 2 * 24, 5 * 32, 3 * 24], abs=2)
    assert {row["video"] for row in found} == {"match"}


def test_the_annotated_video_has_one_frame_for_each_at_its_own_time(tmp_path: Path, film: Path, model: Path) -> None:
    tried(model, film, tmp_path / "out")
    before, after = read_video(film), read_video(tmp_path / "out" / "match.mp4")
    assert [seconds for seconds, _ in after] == pytest.approx([seconds for seconds, _ in before], abs=0.001)
    # The left edge of the red square: at frame 5 a green line is drawn there, at frame 22 nothing.
    edge = slice(2 * 24 + 2, 3 * 24 - 2), slice(4 * 32, 4 * 32 + 1)
    green = [float(after[number][1][edge][..., 1].mean()) for number in (5, 22)]
    bare = [float(before[number][1][edge][..., 1].mean()) for number in (5, 22)]
    assert green[0] > bare[0] + 50
    assert green[1] == pytest.approx(bare[1], abs=10)


def test_the_model_is_shown_tiles_where_they_are_asked_for(tmp_path: Path, film: Path, model: Path) -> None:
    summary = tried(model, film, tmp_path / "out", "--tiles", "2x2")
    assert summary["tiles"] == "2x2"
    assert summary["videos"][0]["frames"] == 30
    whole, tiled = tried(model, film, tmp_path / "whole"), rows(tmp_path / "out")
    assert "tiles" not in whole
    # The squares are a quarter of the whole frame's grid; in the tiles their cells are others.
    assert tiled != rows(tmp_path / "whole")


def test_detections_are_told_per_second_and_class(tmp_path: Path, film: Path, model: Path) -> None:
    summary = tried(model, film, tmp_path / "out", "--threshold", "0.9")
    [video] = summary["videos"]
    assert (video["frames"], video["seconds"], video["frameRate"]) == (30, 3.0, 10.0)
    assert [(item["second"], item["frames"], item["detections"]) for item in video["perSecond"]] == [
        (0, 10, {"red": 10}),
        (1, 10, {"red": 10, "blue": 10}),
        (2, 10, {}),
    ]
    assert video["perClass"]["red"] == {"detections": 20, "frames": 20, "perSecond": 6.67}


def test_the_frame_nearest_the_threshold_is_on_the_contact_sheet(tmp_path: Path, film: Path, model: Path) -> None:
    summary = tried(model, film, tmp_path / "out")
    [doubt] = summary["leastCertain"]
    assert (doubt["video"], doubt["frame"], doubt["label"]) == ("match", 25, "red")
    assert doubt["score"] == pytest.approx(0.5, abs=0.15)
    with Image.open(tmp_path / "out" / "least-certain.jpg") as sheet:
        sheet.load()
        assert sheet.width > 400


def test_a_film_whose_clock_is_uneven_keeps_its_times(tmp_path: Path, model: Path) -> None:
    film = write_video(tmp_path / "uneven.mkv", [scene(((2, 4), RED))] * 4, rate=RATE, times=(0, 1, 5, 6))
    tried(model, film, tmp_path / "out")
    times = [seconds for seconds, _ in read_video(tmp_path / "out" / "uneven.mp4")]
    assert times == pytest.approx([0, 0.1, 0.5, 0.6], abs=0.002)
    assert [float(row["seconds"]) for row in rows(tmp_path / "out")] == pytest.approx([0, 0.1, 0.5, 0.6], abs=0.002)


def test_a_film_from_a_telephone_is_looked_at_upright(tmp_path: Path, film: Path, model: Path) -> None:
    turn(film, height=HEIGHT)
    summary = tried(model, film, tmp_path / "out")
    assert (summary["videos"][0]["width"], summary["videos"][0]["height"]) == (HEIGHT, WIDTH)
    box = [float(rows(tmp_path / "out")[0][name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    # The cell in row 2, column 4 of 8×8, after a quarter to the right: row 4, column 5.
    assert box == pytest.approx([5 * 24, 4 * 32, 6 * 24, 5 * 32], abs=2)


def old_files() -> dict[str, bytes]:
    compiled = b"\x1c\0\0\0TFL3" + b"edgetpu-custom-op" + b"\0" * 64
    return {
        "model.tflite": compiled,
        "map.pbtxt": format_label_map(LABELS).encode(),
        "unoptimized.tflite": colour_detector(),
    }


@pytest.mark.parametrize("extra", [{}, {"accuracy.txt": b"0.5", "logs/checkpoint": b"x", "logs/graph.pbtxt": b"y"}])
def test_tarballs_of_axon_and_of_the_first_season_are_accepted(
    tmp_path: Path, film: Path, extra: dict[str, bytes]
) -> None:
    bundle = tarball(tmp_path / "note.tar.gz", old_files() | extra, tmp_path / "source")
    summary = tried(bundle, film, tmp_path / "out")
    assert summary["model"]["name"] == "note"
    assert summary["model"]["thresholds"] == {"red": 0.5, "blue": 0.5}
    assert summary["videos"][0]["perClass"]["blue"]["detections"] == 10


def test_a_folder_and_a_bare_file_are_accepted(tmp_path: Path, film: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for name, content in old_files().items():
        (folder / name).write_bytes(content)
    named = tried(folder, film, tmp_path / "one")
    bare = tried(folder / "unoptimized.tflite", film, tmp_path / "two")
    labels = folder / "map.pbtxt"
    labels.rename(tmp_path / "elsewhere.pbtxt")
    told = tried(folder / "unoptimized.tflite", film, tmp_path / "three", "--labels", str(tmp_path / "elsewhere.pbtxt"))
    counts = [summary["videos"][0]["perClass"] for summary in (named, bare, told)]
    assert counts[0] == counts[1] == counts[2]


def test_corals_list_of_names_is_accepted_in_place_of_a_label_map(tmp_path: Path, film: Path, model: Path) -> None:
    mapped = tried(model, film, tmp_path / "one")
    (model.parent / "map.pbtxt").unlink()
    names = model.parent / "labels.txt"
    names.write_bytes(b"\xef\xbb\xbf0  red\r\n1  blue\r\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, name in ((model, "unoptimized.tflite"), (names, "labels.txt")):
        (folder / name).write_bytes(path.read_bytes())
    members = {path.name: path.read_bytes() for path in folder.iterdir()}
    bundle = tarball(tmp_path / "note.tar.gz", members, tmp_path / "source")
    beside, inside = tried(model, film, tmp_path / "two"), tried(folder, film, tmp_path / "three")
    archived = tried(bundle, film, tmp_path / "four")
    elsewhere = names.rename(tmp_path / "coral.txt")
    told = tried(model, film, tmp_path / "five", "--labels", str(elsewhere))
    counts = [summary["videos"][0]["perClass"] for summary in (mapped, beside, inside, archived, told)]
    assert counts == counts[:1] * 5


def test_a_file_of_labels_that_is_none_ends_in_a_sentence(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "data.yaml"
    labels.write_text("train: images\nnames: [red, blue]\n")
    command = ["test-video", str(model), str(film), "--to", str(tmp_path / "out"), "--labels", str(labels)]
    assert main(command) == ExitCode.INVALID_SPEC
    errors = capsys.readouterr().err
    assert "data.yaml: line 1 is no name: 'train: images'" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (("unoptimized.tflite",), "lacks a model or its labels"),
        (("model.tflite", "map.pbtxt"), "which runs on a Coral"),
        (("map.pbtxt",), "lacks a model or its labels"),
    ],
)
def test_a_tarball_without_what_it_takes_is_refused_in_a_sentence(
    tmp_path: Path, film: Path, kept: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {name: content for name, content in old_files().items() if name in kept}
    bundle = tarball(tmp_path / "note.tar.gz", members, tmp_path / "source")
    assert main(["test-video", str(bundle), str(film), "--to", str(tmp_path / "out")]) == ExitCode.INVALID_SPEC
    assert sentence in capsys.readouterr().err


def test_a_bare_file_without_labels_says_how_to_name_them(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "map.pbtxt").unlink()
    assert main(["test-video", str(model), str(film), "--to", str(tmp_path / "out")]) == ExitCode.INVALID_SPEC
    assert "name its label map with --labels" in capsys.readouterr().err


def test_a_label_map_of_another_model_is_noticed(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "map.pbtxt").write_text(format_label_map(("red",)))
    assert main(["test-video", str(model), str(film), "--to", str(tmp_path / "out")]) == 0
    assert "10 detections of classes that the label map does not name" in capsys.readouterr().err


def test_class_names_of_a_strangers_model_write_neither_to_the_terminal_nor_formulas(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "map.pbtxt").write_text(format_label_map(("=HYPERLINK(1)", "\x1b[31mblue\u202e")))
    assert main(["test-video", str(model), str(film), "--to", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "=HYPERLINK(1)" in shown.out
    assert r"\x1b[31mblue\u202e" in shown.out
    assert not {"\x1b", "\u202e"} & set(shown.out + shown.err)
    assert {row["label"] for row in rows(tmp_path / "out")} == {"'=HYPERLINK(1)", r"\x1b[31mblue\u202e"}
    assert all(float(row["xmin"]) >= 0 for row in rows(tmp_path / "out"))


def test_a_file_that_is_no_model_ends_in_a_sentence(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_bytes(b"TFL3 is not enough")
    assert main(["test-video", str(model), str(film), "--to", str(tmp_path / "out")]) != 0
    told = capsys.readouterr().err
    assert "error: " in told
    assert "Traceback" not in told


def test_a_release_of_the_local_store_brings_its_own_thresholds(
    tmp_path: Path, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    publish(open_store(directory_store(store)), alter=lambda manifest: replace(manifest, thresholds=(0.9, 0.9995)))
    command = [
        "test-video",
        "colours-v1",
        str(film),
        "--to",
        str(tmp_path / "out"),
        "--store",
        str(store),
        "-o",
        "json",
    ]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"]["name"] == "colours-v1"
    assert list(summary["videos"][0]["perClass"]) == ["red"]
    assert main(["test-video", "colours-v2", str(film), "--to", str(tmp_path / "2"), "--store", str(store)]) == 20
    assert main(["test-video", "colours", str(film), "--to", str(tmp_path / "3"), "--store", str(store)]) == 20
    assert "no such file or folder, and no release" in capsys.readouterr().err


def test_a_release_comes_before_the_folder_into_which_it_was_pulled(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(directory_store(tmp_path / "atoll-store"))
    publish(store, alter=lambda manifest: replace(manifest, thresholds=(0.9, 0.9995)))
    assert main(["pull", "colours-v1", "--all"]) == 0
    capsys.readouterr()
    assert main(["test-video", "colours-v1", str(film), "--to", "out", "-o", "json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["model"]["thresholds"] == {"red": 0.9, "blue": 0.9995}
    assert "colours-v1 is the release" in printed.err
    assert main(["test-video", "./colours-v1", str(film), "--to", "plain", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["thresholds"] == {"red": 0.5, "blue": 0.5}


def test_the_folder_is_taken_where_there_is_no_such_release(
    tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "atoll-store").mkdir()
    (tmp_path / "other-v9").mkdir()
    write_model(tmp_path / "other-v9")
    assert main(["test-video", "other-v9", str(film), "--to", "out", "-o", "json"]) == 0
    assert "other-v9 is the folder here" in capsys.readouterr().err


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing of the kind" * 100)
    cut = tmp_path / "cut.mkv"
    whole = write_video(tmp_path / "whole.mkv", video_frames(), rate=RATE).read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    videos = [str(tmp_path / name) for name in ("broken.mp4", "cut.mkv")]
    assert main(["test-video", str(model), *videos, "--to", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "broken.mp4 could not be read at all" in captured.err
    assert not (tmp_path / "out" / "broken.mp4").exists()
    assert 0 < len(read_video(tmp_path / "out" / "cut.mp4")) <= 30
    assert main(["test-video", str(model), videos[0], "--to", str(tmp_path / "two")]) == ExitCode.DATASET_MALFORMED
    assert "no video could be read" in capsys.readouterr().err


@pytest.mark.parametrize(("make", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_video_is_said_in_a_sentence(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], sentence: str
) -> None:
    path, out = make(tmp_path / "match.mp4"), tmp_path / "out"
    out.mkdir()
    command = ["--model", str(model), "--film", "match", str(path), "--output", str(out)]
    assert edge_main(command) == ExitCode.DATASET_MALFORMED
    message = json.loads(capsys.readouterr().out)["message"]
    assert message.startswith(f"no video could be read: {path}: {sentence}")


def test_the_printed_table_has_rates_for_each_class(
    tmp_path: Path, film: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["test-video", str(model), str(film), "--to", str(tmp_path / "out"), "--threshold", "0.9"]
    assert main(command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["TIME", "red", "blue"] in lines
    assert ["0:01", "10.0", "10.0"] in lines
    assert ["all", "6.7", "3.3"] in lines
    assert main(command) == ExitCode.INVALID_SPEC
    assert "the folder is not empty" in capsys.readouterr().err


def test_the_contract_page_shows_the_summarys_fields(tmp_path: Path, film: Path, model: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/contract.md").read_text(encoding="utf-8")
    block = re.findall(r"```json\n(.*?)```", page.split("## 7. ")[1], re.DOTALL)[0]
    shown = json.loads(block.split("\n\n")[1])
    summary = tried(model, film, tmp_path / "out")
    assert set(shown) == set(summary)
    assert set(shown["speed"]) == set(summary["speed"])
    for name in ("videos", "leastCertain"):
        assert set(shown[name][0]) == set(summary[name][0])


def test_ctrl_c_leaves_no_half_video(tmp_path: Path, model: Path) -> None:
    film = write_video(tmp_path / "long.mp4", _many(), rate=RATE)
    output = tmp_path / "out"
    output.mkdir()
    command = [sys.executable, "-P", "-m", "atoll_edge.video", "--model", str(model), "--output", str(output)]
    child = subprocess.Popen([*command, "--film", "long", str(film)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(output.glob(".long*")), what="the video to grow", timeout_seconds=60)
        os.kill(child.pid, signal.SIGINT)
        assert child.wait(60) == ExitCode.INTERRUPTED
    finally:
        child.kill()
        child.wait()
    assert [path.name for path in output.iterdir()] == ["detections.csv"]


def _many() -> Iterable[Picture]:
    return (scene(((n % 8, 4), RED)) for n in range(3000))
