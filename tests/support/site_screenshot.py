"""The documentation site in headless Chromium: `python -m support.site_screenshot` writes docs/images/docs-site.png.

Run with `PYTHONPATH=tests` after `make docs-site`.
"""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from support.browser import Browser
from support.house import ROOT

SITE = ROOT / "build" / "docs-site"
PICTURE = ROOT / "docs" / "images" / "docs-site.png"
# The page of the photograph: a search that is asked for the word of an error.
PAGE, QUERY = "cli/", "DatasetMalformed"
COLOURS = 64


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_text: object) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of the site on a port of this machine."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def search(browser: Browser, words: str) -> None:
    """Type the words into the search, and wait for its answers."""
    browser.wait("document.querySelector('input.md-search__input') !== null")
    browser.run("document.querySelector('input.md-search__input').focus()")
    browser.call("Input.insertText", text=words)
    browser.wait("document.querySelector('.md-search-result__item') !== null")


def main(site: Path, target: Path) -> None:
    with served(site) as address, Browser(1280, 720) as browser:
        browser.open(address + PAGE)
        search(browser, QUERY)
        # The list of answers slides in.
        browser.wait("document.getAnimations().every(item => item.playState === 'finished')")
        browser.photograph(target, whole=False)
    with Image.open(target) as page:
        # A photograph in a PNG is large; a repository keeps it for ever.
        page.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    main(SITE, PICTURE)
