"""The page as its users see it, at the widths of a desktop and of a phone: nothing overflows, nothing complains.

`ATOLL_GOLDEN=write` writes the pictures of the documentation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atoll_contract.store import directory_store, open_store
from support.browser import Browser
from support.coloured_squares import squares, write_archive
from support.edge_release import golden_image, publish
from support.edge_screenshot import chromium
from support.local_page import LocalPage

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium"),
]

IMAGES = Path(__file__).parents[3] / "docs" / "images"
MAX_BYTES = 300_000
DESKTOP, PHONE = 1280, 390
COLOURS = 128
# The elements that stick out of the page, or whose text is cut off.
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(element => {
  if (element.closest('textarea, pre, .hidden, #lines, dialog:not([open])')) return false;
  const box = element.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(element => element.id || element.className || element.tagName)"""
# Figures and headings of tables that go on in the next line within a word.
BROKEN_FIGURES = """[...document.querySelectorAll('thead th, td')].filter(cell => {
  if (!/^\\S{1,8}$/.test(cell.innerText.trim())) return false;
  const range = document.createRange();
  range.selectNodeContents(cell);
  return new Set([...range.getClientRects()].map(line => line.top)).size > 1;
}).map(cell => cell.innerText)"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page shows the store as it would be in a user's home folder; what other tests have cached stays in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def opened(page: LocalPage, width: int, *, webcam: bool = False) -> Iterator[Browser]:
    """The page in a browser; at the end it must fit and have logged no error."""
    with Browser(width, 800 if width == DESKTOP else 844, webcam=webcam) as browser:
        browser.open(page.address)
        browser.wait("document.querySelector('#store').innerText !== ''")
        yield browser
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(OVERFLOWING) == []
        assert browser.run(BROKEN_FIGURES) == []
        assert browser.complaints == []


def photograph(browser: Browser, name: str, folder: Path, *, whole: bool = True) -> None:
    """A PNG for the documentation, where it was asked for."""
    target = (IMAGES if os.environ.get("ATOLL_GOLDEN") == "write" else folder) / name
    # What is told for ten seconds, and the focus, are not of the state.
    browser.run("document.activeElement.blur()")
    browser.photograph(target, whole=whole)
    with Image.open(target) as image:
        image.convert("RGB").quantize(COLOURS).save(target, optimize=True)
    assert target.stat().st_size < MAX_BYTES


def archive(folder: Path) -> Path:
    path = folder / "field.tar"
    return write_archive(path, {"train": squares(0, 24), "val": squares(24, 6), "test": squares(30, 6)})


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_empty(page: LocalPage, tmp_path: Path, width: int) -> None:
    with opened(page, width) as browser:
        browser.wait("!document.querySelector('#no-runs').hidden")
        if width == DESKTOP:
            photograph(browser, "ui-empty.png", tmp_path)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_training(page: LocalPage, tmp_path: Path, width: int) -> None:
    page.plan(train={"steps": 5})
    page.start("field", model="field")
    page.wait_for("field", "Succeeded")
    with opened(page, width) as browser:
        browser.choose_file("#file", archive(tmp_path))
        browser.wait("document.querySelector('#text').value.includes('kind: TrainingRun')")
        browser.wait("document.querySelectorAll('#gallery img').length > 3")
        browser.wait("!document.querySelector('#start').disabled")
        page.plan(train={"steps": 2000, "seconds": 0.005, "learns": True})
        browser.click("#start")
        browser.wait("document.querySelector('#run h3')?.innerText === 'field-2'")
        browser.wait("document.querySelector('#now').innerText === 'field-2: Training'", seconds=120)
        browser.wait("Number(document.querySelector('#run progress')?.value) > 50", seconds=120)
        # Bar, sentence and caption of the curve are drawn together: one step in all three.
        step = browser.run("""(() => {
          const [sentence, caption] = ['#run p', '#curve-text'].map(name => document.querySelector(name).innerText);
          return [/step (\\d+)/.exec(sentence)[1], /Step (\\d+)/.exec(caption)[1],
            (sentence + caption).match(/ left/g).length];
        })()""")
        assert step[0] == step[1]
        assert "of 2000" in browser.text("#curve-text")
        assert step[2] == 1
        if width == DESKTOP:
            photograph(browser, "ui-training.png", tmp_path)
        else:
            browser.click("#now")
            photograph(browser, "ui-phone.png", tmp_path, whole=False)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_several_targets(page: LocalPage, tmp_path: Path, width: int) -> None:
    figures = {"ap50": 0.8597, "ap": 0.4779, "source": "simulator"}
    stages: dict[str, Any] = {"compile-qnn": {"fail": "CompileFailed", "times": 9}}
    rknn = {"chip": "rk3588", "mappedPercent": 100.0, "figures": figures}
    stages["compile-rknn"] = {"summary": rknn}
    published = {"target": "rknn", "chip": "rk3588", "compiled": True, "ap50": 0.8597, "figuresSource": "simulator"}
    page.plan(
        train={"steps": 300, "learns": True},
        publish={"targets": [published]},
        **stages,
    )
    page.start("field", model="field", targets=("edgetpu", "rknn", "qnn"))
    page.wait_for("field", "Succeeded")
    with opened(page, width) as browser:
        browser.wait("document.querySelectorAll('#targets tbody tr').length === 3")
        assert "Rockchip rk3588" in browser.text("#targets")
        browser.wait("document.querySelector('#releases').innerText.includes('Rockchip 0.86')")
        if width == DESKTOP:
            photograph(browser, "ui-targets.png", tmp_path)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_failed(page: LocalPage, tmp_path: Path, width: int) -> None:
    page.plan(train={"steps": 300, "learns": True, "fail": "TrainingDiverged", "times": 1})
    page.start("field", model="field")
    page.wait_for("field", "Failed")
    with opened(page, width) as browser:
        browser.wait("document.querySelector('#run .state')?.innerText === '✗ Failed'")
        assert "TrainingDiverged: attempt 1 fails by plan" in browser.text("#run")
        assert "what to do: atoll help trainingdiverged" in browser.text("#run")
        browser.click("#log summary")
        browser.wait("document.querySelector('#log-text').innerText.includes('fails by plan')")
        if width == DESKTOP:
            photograph(browser, "ui-failed.png", tmp_path)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_gallery_by_class(page: LocalPage, tmp_path: Path, width: int) -> None:
    page.run_task("/api/archives?name=field.tar", archive(tmp_path).read_bytes())
    with opened(page, width) as browser:
        browser.click("[data-focus='contents field.tar']")
        browser.wait("document.querySelectorAll('#gallery img').length > 3")
        assert browser.run("document.querySelectorAll('#gallery figure:first-child rect').length") == 2
        browser.run(
            "(() => { const field = document.querySelector('#gallery-class'); field.value = 'blue';"
            "field.dispatchEvent(new Event('change')); })()"
        )
        browser.wait("document.querySelectorAll('#gallery img').length > 3")
        assert "blue" in browser.text("#gallery figcaption")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_try_a_picture_and_the_webcam(page: LocalPage, tmp_path: Path, width: int) -> None:
    publish(open_store(directory_store(page.store)))
    picture = tmp_path / "golden.png"
    picture.write_bytes(golden_image())
    with opened(page, width, webcam=True) as browser:
        browser.click("[data-focus='try colours-v1']")
        browser.choose_file("#trial-file", picture)
        browser.wait("document.querySelector('#trial-found').innerText.startsWith('2 objects: red 1')")
        assert browser.run("document.querySelector('#trial-canvas').width") > 100
        if width == DESKTOP:
            photograph(browser, "ui-trial.png", tmp_path)
        browser.click("#trial-camera")
        browser.wait("document.querySelector('#trial-canvas').width === 640")
        browser.wait("!document.querySelector('#trial-stop').hidden")
        browser.click("#trial-stop")
        browser.wait("!document.querySelector('#trial-camera').hidden")
        browser.click("#trial-close")
        browser.wait("document.querySelector('#trial').hidden")
