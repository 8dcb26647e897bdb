"""The pages of `docs/` that messages name, for readers who have neither a checkout nor the site.

They are in the folder `docs` beside this file where Atoll is installed, otherwise in `docs/` of the checkout.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from atoll_contract.errors import DOCS_URL, SECTION, linked

_INSTALLED = Path(__file__).parent / "docs"
_CHECKOUT = Path(__file__).resolve().parents[3] / "docs"
_REASONS = "troubleshooting"
_HEADING = re.compile(r"(#+) +(.+)")


def with_links(text: str) -> str:
    """`text` with a way to each page that it names: a URL if ATOLL_DOCS_URL has the address of the documentation,
    otherwise the command that prints the page."""
    site = os.environ.get(DOCS_URL, "")
    return linked(text, site) if site else SECTION.sub(_command, text)


def page_names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.md"))


def section(name: str) -> str | None:
    """The Markdown of a page, of a section of it, or of what is to be done about a reason; None where there is none.

    `name` is as messages have it: `data`, `docs/data.md#box-empty`, `data#box-empty` or `QualityGateFailed`.
    """
    page, _, anchor = name.removeprefix("docs/").partition("#")
    page = page.removesuffix(".md")
    if page not in page_names():
        page, anchor = _REASONS, anchor or page
    if page not in page_names():
        # An image has the program without its pages.
        return None
    lines = (_folder() / f"{page}.md").read_text(encoding="utf-8").splitlines()
    found = list(_below(lines, anchor.lower())) if anchor else lines
    return "\n".join(found).strip() or None


def _folder() -> Path:
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def _command(match: re.Match[str]) -> str:
    page, anchor = match[1], match[2]
    return f"atoll help {anchor[1:]}" if page == _REASONS else f"atoll help {page}{anchor}"


def _below(lines: list[str], anchor: str) -> Iterator[str]:
    """The paragraph that has the anchor by itself, or the heading with `anchor` and what stands below it."""
    level = 0
    for line in lines:
        if line.startswith(mark := f'<a id="{anchor}"></a>'):
            yield line.removeprefix(mark)
            return
        heading = _HEADING.fullmatch(line)
        if heading and level and len(heading[1]) <= level:
            return
        if heading and not level and _anchor(heading[2]) == anchor:
            level = len(heading[1])
        if level:
            yield line


def _anchor(heading: str) -> str:
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
