"""The page of `atoll ui` in a real browser, used as a user does."""

import re
from pathlib import Path

import pytest

from support import archives
from support.browser import Browser
from support.edge_screenshot import chromium
from support.local_page import LocalPage
from support.polling import wait_until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium"),
]

LOCKED = "Open the address that atoll ui printed in its terminal."
TYPE = """(() => {{ const field = document.querySelector('#text');
  field.value = field.value.replace({old!r}, {new!r}); field.dispatchEvent(new Event('input')); }})()"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "Reef 2025.tar"
    path.write_bytes(archives.tar_bytes(archives.supervisely(12, labels=("coral", "algae"))))
    return path


def test_from_a_dropped_archive_to_two_releases_side_by_side(page: LocalPage, archive: Path) -> None:
    page.plan(train={"steps": 40, "seconds": 0.05})
    page.start("first", model="reef-2025")
    page.wait_for("first", "Succeeded")
    with Browser() as browser:
        browser.open(page.address)
        browser.wait("document.querySelector('#releases').innerText.includes('reef-2025-v1')")
        browser.choose_file("#file", archive)
        browser.wait("document.querySelector('#text').value.includes('kind: TrainingRun')")
        assert "12 pictures, 24 boxes, 2 classes" in browser.text("#contents")
        assert re.search(r"coral\s+\d+\s+\d+", browser.text("#contents"))
        browser.wait("document.querySelector('#estimate').innerText.includes('as in run first')")
        before = browser.text("#estimate")
        browser.run(TYPE.format(old="steps: ", new="steps: 9"))
        browser.wait(f"document.querySelector('#estimate').innerText !== {before!r}")
        assert re.search(r"About \d+ (s|min|h)", browser.text("#estimate"))
        browser.run(TYPE.format(old="steps: 9", new="steps: "))

        browser.run(TYPE.format(old="batchSize: 8", new="batchSize: 0"))
        browser.wait("document.querySelector('#problems').innerText.includes('batchSize')")
        assert browser.run("document.querySelector('#start').disabled")
        browser.run(TYPE.format(old="batchSize: 0", new="batchSize: 8"))
        browser.wait("!document.querySelector('#start').disabled")
        browser.click("#start")
        browser.wait("document.querySelector('#run h3')?.innerText === 'reef-2025'")
        browser.wait("document.querySelector('#run svg')?.getAttribute('aria-label').startsWith('Step ')")
        browser.wait("document.querySelector('#run .state').innerText === '✓ Succeeded'")
        assert re.search(r"Edge TPU\s+no compiler", browser.text("#targets"))

        browser.wait("!document.querySelector('#compare').hidden")
        browser.click("#compare button")
        browser.wait("document.querySelector('#comparison .problem') !== null")
        assert re.search(r"AP50 of the exported model\s+0\.880\s+0\.880\s+= same", browser.text("#comparison"))
        # Stages that did no work left no model to run.
        assert "reef-2025-v1 does not name its dataset" in browser.text("#comparison .problem")
        browser.click("[data-focus='bundle reef-2025-v2']")
        browser.wait("document.querySelector('#message').innerText.includes('is in your downloads')")
        assert browser.complaints == []


def test_a_draft_without_start_weights_is_refused_and_can_be_asked_for_with_random_ones(
    page: LocalPage, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATOLL_WEIGHTS_DIR")
    with Browser() as browser:
        browser.open(page.address)
        browser.choose_file("#file", archive)
        browser.wait("document.querySelector('#drop-problem').innerText.includes('no ImageNet weights')")
        assert browser.text("#estimate") == ""
        browser.run("document.querySelector('#from').value = 'random'")
        browser.click("#write")
        browser.wait("document.querySelector('#text').value.includes('initFrom: { type: random }')")


def test_the_error_of_a_refused_archive_is_shown_beside_the_field(page: LocalPage, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:5000])
    with Browser() as browser:
        browser.open(page.address)
        browser.choose_file("#file", archive)
        browser.wait("document.querySelector('#drop-problem').innerText.includes('Reef 2025.tar: ')")
        assert browser.text("#archives") == ""


def test_without_the_address_that_was_printed_the_page_says_what_to_open(page: LocalPage) -> None:
    with Browser() as browser:
        browser.open(page.address.partition("#")[0])
        browser.wait("!document.querySelector('#locked').hidden")
        assert browser.text("body").split("\n\n") == ["Atoll", LOCKED]


def test_a_page_of_an_earlier_server_shows_that_sentence_alone(page: LocalPage) -> None:
    page.start("one")
    with Browser() as browser:
        browser.open(page.address + "old")
        browser.wait("!document.querySelector('#locked').hidden")
        assert browser.text("body").split("\n\n") == ["Atoll", LOCKED]


def phases(page: LocalPage, run: str) -> list[tuple[str, str]]:
    """The stages of a run with their phases; none before its engine has begun."""
    return [(item["name"], item["phase"]) for item in page.request(f"/api/runs/{run}").get("stages", [])]


def test_cancel_asks_first(page: LocalPage) -> None:
    page.plan(train={"steps": 1000, "seconds": 0.05})
    page.start("one")
    # Cancelled earlier, the run would have no stage at work that is cancelled with it.
    wait_until(lambda: ("train", "Running") in phases(page, "one"), what="the training")
    with Browser() as browser:
        browser.open(page.address)
        browser.click("[data-focus='cancel one']")
        browser.wait("document.querySelector('#question').open")
        assert browser.run("document.activeElement.id") == "question-no"
        browser.press("Escape", code=27)
        browser.wait("!document.querySelector('#question').open")
        assert page.state_of("one") not in ("Cancelling", "Cancelled")
        # The button waits for the answer, which comes with the dialog's event after its end.
        browser.wait("!document.querySelector(\"[data-focus='cancel one']\").disabled")
        browser.click("[data-focus='cancel one']")
        browser.wait("document.querySelector('#question').open")
        browser.click("#question-yes")
        browser.wait("document.querySelector('#run .state').innerText === '– Cancelled'")
        browser.wait("document.querySelector('#run .stages li:nth-child(2)').innerText.includes('– cancelled')")
        assert browser.complaints == []


def test_an_empty_page_says_in_every_part_what_comes_there(page: LocalPage) -> None:
    with Browser() as browser:
        browser.open(page.address)
        browser.wait("!document.querySelector('#no-runs').hidden")
        for part in ("#no-archives", "#no-runs", "#no-releases"):
            assert browser.text(part)
        assert "Choose an archive above" in browser.run("document.querySelector('#text').placeholder")


def test_lines_are_numbered_and_wrong_ones_marked(page: LocalPage, archive: Path) -> None:
    with Browser() as browser:
        browser.open(page.address)
        browser.choose_file("#file", archive)
        browser.wait("document.querySelector('#text').value.includes('kind: TrainingRun')")
        lines = browser.run("document.querySelector('#text').value.split('\\n')")
        assert browser.run("document.querySelectorAll('#lines span').length") == len(lines)
        wanted = next(number for number, line in enumerate(lines, start=1) if "batchSize" in line)
        browser.run(TYPE.format(old="batchSize:", new="batchsize:"))
        browser.wait("document.querySelector('#lines .wrong') !== null")
        assert browser.text("#lines .wrong") == str(wanted)
        assert f"run.yaml:{wanted}:" in browser.text("#problems")


def test_the_keyboard_reaches_everything_and_keeps_its_focus(page: LocalPage, archive: Path) -> None:
    page.start("one")
    page.wait_for("one", "Succeeded")
    page.run_task("/api/archives?name=reef.tar", archive.read_bytes())
    with Browser() as browser:
        browser.open(page.address)
        browser.wait("document.querySelector('#releases').innerText.includes('note-v1')")
        browser.wait("document.querySelector('[data-focus=report]') !== null")
        reached = set()
        for _ in range(20):
            browser.press("Tab", code=9)
            reached.add(browser.run("document.activeElement.dataset.focus || document.activeElement.id"))
        wanted = {
            "file",
            "archive reef.tar",
            "contents reef.tar",
            "from",
            "text",
            "run one",
            "report",
            "bundle note-v1",
        }
        assert wanted <= reached
        browser.run("document.querySelector(\"[data-focus='archive reef.tar']\").focus()")
        browser.press(" ", code=32, text=" ")
        browser.wait("!document.querySelector('#write').disabled")
        assert browser.run("document.activeElement.dataset.focus") == "archive reef.tar"


def test_nothing_is_wider_than_the_page(page: LocalPage) -> None:
    page.plan(train={"steps": 5})
    page.start("a-run-with-quite-a-long-name-in-the-list", model="a-model-with-quite-a-long-name-as-well")
    page.wait_for("a-run-with-quite-a-long-name-in-the-list", "Succeeded")
    for width in (320, 390, 1280):
        with Browser(width, 800) as browser:
            browser.open(page.address)
            browser.wait("document.querySelector('#run svg') !== null")
            assert browser.run("document.documentElement.scrollWidth") <= width
