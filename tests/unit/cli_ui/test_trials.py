"""A release on single images: the detector's process behind the page."""

import http.client
import io
from pathlib import Path

import pytest
from PIL import Image

from atoll_cli.ui.datasets import Workspace
from atoll_cli.ui.server import TOKEN_HEADER
from atoll_cli.ui.trials import MAX_IMAGE_BYTES, ImageDetector
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.store import directory_store, open_store
from support.edge_release import GOLDEN_BOXES, golden_image, publish
from support.local_page import LocalPage
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)
TRIAL = "/api/releases/colours-v1/trial"


def test_a_release_finds_what_is_on_an_image(page: LocalPage) -> None:
    publish(open_store(directory_store(page.store)))
    found = page.request(TRIAL, golden_image())
    assert [item["label"] for item in found["detections"]] == ["red", "blue"]
    for item, (_, (ymin, xmin, ymax, xmax)) in zip(found["detections"], GOLDEN_BOXES, strict=True):
        assert item["box"] == pytest.approx([xmin, ymin, xmax, ymax], abs=0.01)
    assert "it cannot be read as one of JPEG" in page.request(TRIAL, b"no image")["error"]
    assert "there is no release colours-v9" in page.request("/api/releases/colours-v9/trial", golden_image())["error"]


def test_boxes_are_those_of_the_upright_image(page: LocalPage) -> None:
    publish(open_store(directory_store(page.store)))
    stream = io.BytesIO()
    with Image.open(io.BytesIO(golden_image())) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        # A camera that lay on its side: turned by 90 degrees to the right, it is upright again.
        image.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=95, exif=exif)
    found = page.request(TRIAL, stream.getvalue())
    (ymin, xmin, ymax, xmax) = GOLDEN_BOXES[0][1]
    red = next(item for item in found["detections"] if item["label"] == "red")
    assert red["box"] == pytest.approx([xmin, ymin, xmax, ymax], abs=0.03)


def test_too_large_an_image_is_refused_before_it_is_read(page: LocalPage) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.server.guard.port, timeout=30)
    connection.putrequest("POST", TRIAL)
    connection.putheader("Content-Length", str(MAX_IMAGE_BYTES + 1))
    connection.putheader(TOKEN_HEADER, page.server.guard.token)
    connection.endheaders(b"")
    answer = connection.getresponse()
    assert answer.status == 413
    assert str(MAX_IMAGE_BYTES) in answer.read().decode()
    connection.close()
    assert page.send(TRIAL, golden_image(), headers={})[0] == 403


def test_a_model_that_nobody_uses_is_let_go(tmp_path: Path) -> None:
    store = open_store(directory_store(tmp_path))
    publish(store)
    publish(store, 2)
    detector = ImageDetector(Workspace(tmp_path, store, "local"), idle_seconds=0.2)
    try:
        for release in ("colours-v1", "colours-v2", "colours-v1"):
            assert len(detector.detect(release, golden_image())["detections"]) == 2
        wait_until(lambda: detector._child is None, what="the end of the process", timeout_seconds=30)
        assert detector.detect("colours-v1", golden_image())["detections"]
        assert detector._child is not None
        assert detector._child._process is not None
        detector._stop_timer()
        detector._child._process.kill()
        detector._child._process.wait()
        with pytest.raises(SpecError, match="ended without an answer; try again"):
            detector.detect("colours-v1", golden_image())
        assert detector.detect("colours-v1", golden_image())["detections"]
    finally:
        detector.close()


def test_a_damaged_model_is_refused_with_its_reason(tmp_path: Path) -> None:
    store = open_store(directory_store(tmp_path))
    publish(store, model=b"no model")
    detector = ImageDetector(Workspace(tmp_path, store, "local"))
    with pytest.raises(AtollError, match="LiteRT cannot load"):
        detector.detect("colours-v1", golden_image())
    detector.close()
