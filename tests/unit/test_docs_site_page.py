"""The documentation site in a real browser: it fits a phone, loads nothing from elsewhere, and finds words."""

from collections.abc import Iterator

import pytest

from support.browser import Browser
from support.edge_screenshot import chromium
from support.site_screenshot import PICTURE, QUERY, SITE, search, served

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not SITE.is_dir(), reason="NOT RUN: no site; make docs-site"),
]

# The widest tables, the drawing, the front page and the longest lines of code.
PAGES = ("", "api/", "cli/", "architecture/", "comparison/", "glossary/", "contract/", "first-run/")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(SITE) as found:
        yield found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_page_fits_and_loads_nothing_from_elsewhere(address: str, width: int, dark: bool) -> None:
    with Browser(width, 900, dark=dark) as browser:
        for page in PAGES:
            browser.open(address + page)
            assert browser.run("document.documentElement.scrollWidth") <= width, page
            assert browser.run("getComputedStyle(document.body).colorScheme") == ("dark" if dark else "light"), page
            loaded = browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")
            assert loaded
            assert [name for name in loaded if not name.startswith(address)] == []
        assert browser.complaints == []


def test_the_search_leads_to_the_section_about_a_reason(address: str) -> None:
    with Browser() as browser:
        browser.open(address)
        search(browser, QUERY)
        links = "[...document.querySelectorAll('.md-search-result__link')].map(link => new URL(link.href))"
        (first, *_) = browser.run(f"{links}.map(link => link.pathname + link.hash)")
        assert first.startswith("/troubleshooting/")
        browser.run(f"location.assign({links}.find(link => link.hash).href)")
        browser.wait("location.pathname === '/troubleshooting/'")
        browser.wait("document.querySelector(location.hash)?.id === 'datasetmalformed'")
        assert browser.complaints == []


def test_the_picture_of_the_site_is_small_enough_to_keep() -> None:
    assert PICTURE.stat().st_size < 200_000
