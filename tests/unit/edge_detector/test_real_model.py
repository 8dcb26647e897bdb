"""A real int8 file in a real worker process."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.litert import LiteRtLoader
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.protocol import Loaded, Refused
from atoll_edge.models.canary_worker import CanaryJob
from atoll_edge.models.verify import run_canary
from support.detector_file import CLASSES, detector_file
from support.edge_model import colour_detector
from support.edge_release import GOLDEN_BOXES, golden_image
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)


def load(client: DetectorClient, path: Path) -> Loaded | Refused:
    client.begin_load(str(path), threads=1)
    [ended] = wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=120)
    return ended


def test_a_file_of_each_head_is_loaded_and_run() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    for architecture in ("ssd-mobilenet-v2-fpnlite-192", "dfl-mobilenet-v2-fpn-192"):
        model = LiteRtLoader().load(detector_file(architecture, 0.35), threads=1)
        assert (model.width, model.height) == (192, 192)
        # Untrained, it takes nothing for an object.
        assert all(found.score < 0.1 for found in model.detect(Image.fromarray(image)).detections)


@pytest.mark.parametrize("architecture", ["ssd-mobilenet-v2-fpnlite-192", "dfl-mobilenet-v2-fpn-192"])
def test_a_file_of_each_head_passes_the_canary_and_serves(architecture: str) -> None:
    path = detector_file(architecture, 0.35)
    run_canary(CanaryJob(str(path), len(CLASSES), 192), name=architecture)
    client = DetectorClient(Backend.CPU)
    try:
        ended = load(client, path)
        assert isinstance(ended, Loaded)
        assert (ended.width, ended.height) == (192, 192)
        answer = client.detect(np.zeros((48, 64, 3), np.uint8), timeout_seconds=60)
    finally:
        client.close()
    assert answer.non_finite == 0


def test_the_child_finds_what_was_drawn(tmp_path: Path) -> None:
    """The pixels go as BGR, and a red square must not come back as blue."""
    path = tmp_path / "model.tflite"
    path.write_bytes(colour_detector())
    image = cv2.imdecode(np.frombuffer(golden_image(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    client = DetectorClient(Backend.CPU)
    try:
        assert isinstance(load(client, path), Loaded)
        answer = client.detect(image, timeout_seconds=60)
    finally:
        client.close()
    rows = sorted(answer.rows)
    assert [int(row[0]) for row in rows] == [class_id for class_id, _ in GOLDEN_BOXES]
    for row, (_, box) in zip(rows, GOLDEN_BOXES, strict=True):
        assert row[2:6] == pytest.approx(box, abs=0.01)


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_a_frame_takes_no_new_memory_of_the_system() -> None:
    """The child keeps what it frees; without that each of these frames costs a hundred page faults."""
    image = np.zeros((240, 320, 3), np.uint8)
    client = DetectorClient(Backend.CPU)
    try:
        assert isinstance(load(client, detector_file("ssd-mobilenet-v2-fpnlite-192", 0.35)), Loaded)
        for _ in range(20):
            client.detect(image, timeout_seconds=60)
        before = page_faults(client.pid)
        for _ in range(50):
            client.detect(image, timeout_seconds=60)
        assert page_faults(client.pid) - before < 50 * 10
    finally:
        client.close()


def test_the_converters_own_order_is_refused_as_pycoral_would_misread_it(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(colour_detector(signature=True))
    client = DetectorClient(Backend.CPU)
    try:
        ended = load(client, path)
    finally:
        client.close()
    assert isinstance(ended, Refused)
    assert "[1, 25, 4]" in ended.error


def test_a_second_model_takes_over_between_two_frames(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(colour_detector())
    client = DetectorClient(Backend.CPU)
    image = np.zeros((48, 64, 3), np.uint8)
    try:
        first = load(client, tmp_path / "one")
        second = client.begin_load(str(tmp_path / "two"), threads=1)
        assert client.detect(image, timeout_seconds=60).model in (first.id, second)
        wait_until(lambda: client.detect(image, timeout_seconds=60).model == second, what="the second model")
    finally:
        client.close()


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 5000])
def test_a_file_that_is_no_model_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.tflite").write_bytes(content)
    client = DetectorClient(Backend.CPU)
    try:
        ended = load(client, tmp_path / "broken.tflite")
    except DetectorLost:
        return  # the parser crashed, which is why the worker is a process of its own
    finally:
        client.close()
    assert isinstance(ended, Refused)
    assert "broken.tflite" in ended.error
