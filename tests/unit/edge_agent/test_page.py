"""The status page in a real browser. `docs/images/edge-page.png` is made by `support.edge_screenshot` too."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from atoll_edge.config import HarvestConfig
from support.edge_agent import RunningAgent
from support.edge_release import publish
from support.edge_robot import Robot
from support.edge_screenshot import SIZE, chromium, photograph, text_of
from support.polling import wait_until

PICTURE = Path(__file__).parents[3] / "docs" / "images" / "edge-page.png"


def test_the_image_in_docs_is_such_a_screenshot() -> None:
    page = cv2.imread(str(PICTURE))
    assert page is not None
    assert page.shape[:2] == (SIZE[1], SIZE[0])
    assert PICTURE.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(chromium() is None, reason="NOT RUN: no Chromium here: apt-get install chromium")
def test_the_page_shows_image_state_and_figures(tmp_path: Path) -> None:
    robot = Robot()
    harvest = HarvestConfig(enabled=True, interval_seconds=0.2, min_doubt=0.0, min_free_mebibytes=0)
    running = RunningAgent(tmp_path, robot.port, harvest=harvest)
    try:
        publish(running.bucket, 1)
        running.wait_for("Active", 1)
        wait_until(lambda: running.get("/readyz")[0] == 200, what="readiness", timeout_seconds=60)
        wait_until(lambda: list(running.bucket.list("harvest/")), what="a harvested frame", timeout_seconds=60)
        url = f"http://127.0.0.1:{running.config.http.port}/"
        photograph(url, tmp_path / "page.png")
        text = text_of(url)
    finally:
        running.close()
        robot.close()
    page = cv2.imread(str(tmp_path / "page.png"))
    assert re.search(r"Harvest</dt><dd>\d+ kept, \d+ uploaded, \d+ on the card \(\d+\.\d MiB\)</dd>", text)
    assert page is not None
    assert page.shape[:2] == (SIZE[1], SIZE[0])
    # The green of `Active`, as page.html has it, and the red square of the drawn scene, as JPEG leaves it.
    assert np.any(np.all(page == (0x37, 0x7F, 0x1A), axis=2))
    blue, green, red = (page[:, :, channel].astype(int) for channel in range(3))
    assert np.any((red > 200) & (green < 60) & (blue < 60))
