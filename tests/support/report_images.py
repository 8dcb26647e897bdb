"""Images of a report for README and docs: `python -m support.report_images REPORT.html`, run from `tests/`.

`make demo` writes the report. The images show its top and its pictures as headless Chromium does.
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from support.browser import Browser

DOCS = Path(__file__).parents[2] / "docs" / "images"
WIDTH = 1280
# A repository keeps every image for ever.
MAX_BYTES = 300_000
COLOURS = (256, 192, 128, 96, 64)
# The name of the image → the element that it begins with, and its height.
VIEWS = {"report.png": ("body", 1000), "report-pictures.png": ("#images", 1000)}


def overflow(browser: Browser) -> int:
    """By how many pixels the page is wider than its window."""
    return int(browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def write_images(report: Path, folder: Path) -> None:
    """Writes VIEWS of the report into the folder."""
    for name, (selector, height) in VIEWS.items():
        with Browser(WIDTH, height) as browser:
            browser.open(report.resolve().as_uri())
            browser.run(f"document.querySelector({selector!r}).scrollIntoView()")
            browser.photograph(folder / name, whole=False)
            assert browser.complaints == []
        _reduce(folder / name)


def _reduce(path: Path) -> None:
    """Takes as many colours as fit into MAX_BYTES."""
    with tempfile.TemporaryDirectory() as folder, Image.open(path) as shot:
        small = Path(folder) / path.name
        for colours in COLOURS:
            shot.convert("RGB").quantize(colours).save(small, optimize=True)
            if small.stat().st_size < MAX_BYTES:
                break
        data = small.read_bytes()
    path.write_bytes(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--folder", type=Path, default=DOCS)
    given = parser.parse_args()
    write_images(given.report, given.folder)
