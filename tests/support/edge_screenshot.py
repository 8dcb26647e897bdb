"""The status page as headless Chromium shows it: `python -m support.edge_screenshot BUNDLE PICTURES OUT.png`.

Run from `tests/`. The agent is the demo's; the page is photographed once it shows a picture and a rate.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from atoll_edge.agent import Agent
from atoll_edge.demo import Ports, demo_config, free_ports, image_folder
from atoll_edge.models.bundle import bundle_spec, unpack
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.robot.networktables import NetworkTables
from support.polling import wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (860, 560)
# How much of the page's own time passes before the photograph: two rounds of its refresh.
PAGE_MILLIS = 2500
COLOURS = 128


def chromium() -> str | None:
    """The browser's path, or None."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


def photograph(url: str, target: Path) -> None:
    """Write a PNG of the page.

    Raises:
        RuntimeError: there is no Chromium, or it wrote nothing.
    """
    done = _browse(url, f"--screenshot={target}")
    if not target.is_file():
        raise RuntimeError(f"Chromium wrote no picture (exit status {done.returncode}): {done.stderr[-500:]}")


def text_of(url: str) -> str:
    """The page as HTML, after its scripts ran."""
    return _browse(url, "--dump-dom").stdout


def _browse(url: str, what: str) -> "subprocess.CompletedProcess[str]":
    program = chromium()
    if program is None:
        raise RuntimeError("Chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--virtual-time-budget={PAGE_MILLIS}",
            what,
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def main(bundle: Path, images: Path, target: Path, min_score: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = bundle_spec("field-v1", unpack(bundle, Path(folder) / "bundle"))
        camera = image_folder(images, Path(folder) / "pictures")
        ports = Ports(*free_ports(4))
        robot = NetworkTables("robot")
        robot.start_server("127.0.0.1", ports.tables)
        agent = Agent(demo_config(ports, camera, min_score), lambda detector, *_: FixedModelManager(model, detector))
        agent.start()
        try:
            wait_until(lambda: agent.status.status().fps > 0 and agent.tables.peers, what="frames", timeout_seconds=120)
            wait_until(lambda: agent.pipeline.displayed and agent.pipeline.displayed.observations, what="a detection")
            photograph(f"http://127.0.0.1:{ports.http}/", target)
        finally:
            agent.stop()
            robot.close()
    with Image.open(target) as page:
        # A photograph in a PNG is large; a repository keeps it for ever.
        page.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--min-score", type=float, default=0.5)
    given = parser.parse_args()
    main(given.bundle, given.images, given.target, given.min_score)
