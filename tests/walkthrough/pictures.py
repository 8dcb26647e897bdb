"""The page's pictures, from what its commands left in the folder."""

from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image

from support.browser import Browser
from support.local_page import LocalPage
from support.videos import pixels
from walkthrough.page import PAGE

TARGET = PAGE.parent / "images" / "walkthrough"
UI = PAGE.parent / "images" / "ui.png"
MOST_BYTES = 200_000
WIDTH = 900
COLOURS = 128


def photographed(url: str, target: Path, *, height: int) -> None:
    """The top of a page that a command made."""
    with Browser(WIDTH, height) as browser:
        browser.open(url)
        browser.wait("[...document.images].every(image => image.complete && image.naturalWidth)")
        browser.photograph(target, whole=False)
    few_colours(target)


def few_colours(path: Path) -> None:
    """A photograph in a PNG is large; a repository keeps it for ever."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def sheet(paths: Sequence[Path], target: Path, *, columns: int, width: int) -> None:
    """Pictures side by side."""
    tiles = []
    for path in paths:
        with Image.open(path) as picture:
            tiles.append(picture.convert("RGB").resize((width, width * picture.height // picture.width)))
    rows = -(-len(tiles) // columns)
    height = tiles[0].height
    whole = Image.new("RGB", (columns * width, rows * height), "white")
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % columns * width, number // columns * height))
    whole.save(target, quality=80)


def from_folder(folder: Path) -> None:
    """Everything but the robot's page, which is photographed while it runs."""
    TARGET.mkdir(parents=True, exist_ok=True)
    sheet(sorted((folder / "frames" / "images").rglob("*.jpg"))[:8], TARGET / "frames.jpg", columns=4, width=220)
    results = folder / "atoll-store" / "results" / "field"
    photographed((results / "report.html").as_uri(), TARGET / "report.png", height=760)
    _frame(folder / "seen" / "match.mp4", TARGET / "seen.jpg", second=3.5)
    with Image.open(folder / "seen" / "least-certain.jpg") as picture:
        picture.thumbnail((WIDTH, WIDTH))
        picture.convert("RGB").save(TARGET / "least-certain.jpg", quality=75)
    page = next(folder.glob("compare-*.html"))
    photographed(page.as_uri(), TARGET / "compare.png", height=700)
    _ui(folder)


def _frame(video: Path, target: Path, *, second: float) -> None:
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if float(frame.time or 0) >= second:
                Image.fromarray(pixels(frame)).save(target, quality=80)
                return
    raise AssertionError(f"{video} is shorter than {second} s")


def _ui(folder: Path) -> None:
    """The page of `atoll ui` over the same store, with the two releases compared."""
    with LocalPage(folder, store=folder / "atoll-store") as page, Browser(1280, 1150) as browser:
        browser.open(page.address)
        browser.wait("document.querySelector(\"[data-focus='archive field.tar']\") !== null")
        browser.click("[data-focus='archive field.tar']")
        # The walk's own start, as no weights are at hand where the page is shown.
        browser.run("document.querySelector('#from').value = 'random'")
        browser.click("#write")
        browser.wait("document.querySelector('#text').value.includes('kind: TrainingRun')", seconds=300)
        browser.click("[data-focus='run field']")
        browser.wait("document.querySelector('#run h3').innerText === 'field'")
        browser.click("#compare button")
        browser.wait("document.querySelectorAll('#comparison table').length > 1", seconds=600)
        browser.photograph(UI, whole=False)
    few_colours(UI)
