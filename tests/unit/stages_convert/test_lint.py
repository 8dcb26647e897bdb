"""`python -m atoll_stages.convert --lint`."""

import json
import subprocess
import sys
from pathlib import Path

from atoll_contract.errors import ExitCode
from atoll_stages.convert.meanings import MAX_WARNINGS, bounded_warnings
from support.archives import annotation, jpeg, packed, rectangle, supervisely


def lint(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "atoll_stages.convert", *arguments], capture_output=True, timeout=50, check=False
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode()


def test_lint_says_what_a_run_would_say(tmp_path: Path) -> None:
    files = supervisely(8, labels=["note", "cube"])
    files["game/ds0/ann/frame_00003.jpg.json"] = annotation([rectangle("note", 10, 10, 10.5, 30)])
    files["game/ds0/img/frame_00004.jpg"] = files["game/ds0/img/frame_00001.jpg"]
    path = tmp_path / "x.tar"
    path.write_bytes(packed(files, ".tar"))
    code, output = lint("--lint", str(path), "--json")
    report = json.loads(output)
    assert code == ExitCode.OK
    assert report["ok"] is True
    assert report["pictures"] == 7
    assert report["exactDuplicates"] == 1
    assert {item["name"]: (sum(item["boxes"].values()), item["tiny"]) for item in report["classes"]} == {
        "note": (7, 1),
        "cube": (6, 0),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    _, text = lint("--lint", str(path))
    assert "7 of 8 pictures (left out: 1 exact duplicate), 13 boxes, 2 classes" in text
    assert "Duplicate: 1" in text


def test_lint_of_a_bad_archive_ends_with_its_code(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(packed({"a.jpg": jpeg()}, ".tar"))
    code, output = lint("--lint", str(path), "--json")
    assert code == ExitCode.DATASET_MALFORMED
    assert json.loads(output)["reason"] == "DatasetMalformed"
    code, output = lint("--lint", str(tmp_path / "nothing"))
    assert code == ExitCode.DATASET_NOT_FOUND
    assert "DatasetNotFound" in output


def test_lint_prints_what_is_left_out_first(tmp_path: Path) -> None:
    files = supervisely(8)
    del files["game/ds0/img/frame_00003.jpg"]
    path = tmp_path / "x.tar"
    path.write_bytes(packed(files, ".tar"))
    _, text = lint("--lint", str(path))
    assert text.startswith("warning: 1 annotation of a picture that is not there (left out); first: ")
    assert "\nobjects: 8 seen, 1 PictureMissing, 7 used\n" in text
    report = json.loads(lint("--lint", str(path), "--json")[1])
    assert report["warnings"][0].endswith("see docs/data.md#picture-missing")
    assert report["totals"]["pictures"] == {"seen": 7, "used": 7}


def test_every_picture_that_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    files = supervisely(120)
    for number in (1, 2, 3):
        files[f"game/ds0/img/frame_0001{number}.jpg"] = files["game/ds0/img/frame_00000.jpg"]
    files["game/ds0/img/frame_00050.jpg"] = files["game/ds0/img/frame_00050.jpg"][:200]
    del files["game/ds0/ann/frame_00060.jpg.json"]
    path = tmp_path / "x.tar"
    path.write_bytes(packed(files, ".tar"))
    report = json.loads(lint("--lint", str(path), "--json")[1])
    assert report["pictures"] == 115
    reasons = "3 exact duplicates, 1 without annotation, 1 unreadable"
    assert report["message"] == f"115 of 120 pictures (left out: {reasons}), 115 boxes, 1 class"


def test_small_boxes_are_counted_for_every_input(tmp_path: Path) -> None:
    """Of 640 × 480: √(w·h) in an input of 320 is half of √(width · height · 4/3)."""
    files = supervisely(12)
    for number in range(12):
        edge = (9, 14, 22, 30)[number % 4]
        files[f"game/ds0/img/frame_{number:05d}.jpg"] = jpeg(number, size=(640, 480))
        box = [rectangle("note", 100, 100, 100 + edge, 100 + edge)]
        files[f"game/ds0/ann/frame_{number:05d}.jpg.json"] = annotation(box, size=(640, 480))
    path = tmp_path / "x.tar"
    path.write_bytes(packed(files, ".tar"))
    report = json.loads(lint("--lint", str(path), "--json")[1])
    # In 320 pixels the boxes are 5.2, 8.1, 12.7 and 17.3 pixels large; in 640 twice as much.
    assert report["smallBoxes"] == {"192": 12, "300": 12, "320": 12, "416": 9, "512": 6, "640": 6}


def test_warnings_are_bounded_in_number_and_length() -> None:
    found = bounded_warnings([f"{number} {'x' * 5000}" for number in range(1000)])
    assert len(found) == MAX_WARNINGS + 1
    assert max(map(len, found)) <= 600
    assert found[-1] == "and 900 more warnings"
