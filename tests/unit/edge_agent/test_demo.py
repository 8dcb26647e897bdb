"""`make edge-demo` as a user runs it: its output, and its exit status if the robot saw nothing."""

import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from atoll_edge.camera.files import GREY, draw_scene
from support.edge_model import write_model

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in write_model(tmp_path):
            archive.add(file, file.name)
    return path


def demo(bundle: Path, images: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "atoll_edge.demo", "--bundle", str(bundle), "--pictures", str(images)]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=200, check=False)


def folder(path: Path, *images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    path.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(path / f"{number}.png"), image)
    return path


def test_it_prints_what_the_robot_saw_and_the_addresses(bundle: Path, tmp_path: Path) -> None:
    images = folder(tmp_path / "pictures", *(draw_scene(320, 240, number) for number in (10, 40, 70)))
    done = demo(bundle, images, "--frames", "2", "--seconds", "120")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("client   /Atoll/demo/detections at ") for line in lines) == 2
    assert any("red 9" in line or "blue 9" in line for line in lines)
    assert any(line.strip().startswith("annotated http://localhost:") for line in lines)
    assert any(line.startswith("viewer   the annotated stream gives pictures") for line in lines)


def test_it_fails_where_no_detection_reached_the_robot(bundle: Path, tmp_path: Path) -> None:
    images = folder(tmp_path / "pictures", np.full((240, 320, 3), GREY, np.uint8))
    done = demo(bundle, images, "--seconds", "6")
    assert done.returncode == 1
    assert "no detection within 6 s" in done.stderr


@pytest.mark.parametrize("content", [None, b"no bundle"])
def test_what_is_no_bundle_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.tar.gz"
    if content is not None:
        path.write_bytes(content)
    done = demo(path, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("edge-demo: ")
    assert "Traceback" not in done.stderr
