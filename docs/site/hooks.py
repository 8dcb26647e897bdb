"""Adds the repository's own pages (README, changelog, charts) to the documentation site, and maps their links.

MkDocs calls the `on_` functions. A link to a file that is no page of the site stays, and `--strict` reports it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

# Page of the site: file of the repository.
REPOSITORY_PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "chart.md": "charts/atoll/README.md",
}
_SITE_PAGES = {source: page for page, source in REPOSITORY_PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")
_TABLE_ROW = re.compile(r"^\|.*\|$", re.M)
_CODE = re.compile(r"`[^`]+`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    root = Path(config.docs_dir).parent
    for page, source in REPOSITORY_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_others: object) -> str:
    return with_plain_bars(with_site_links(markdown, page.file.src_uri))


def with_site_links(markdown: str, page: str) -> str:
    """Returns the page's text with its links to files of the repository turned into links to pages of the site."""
    source = REPOSITORY_PAGES.get(page, f"docs/{page}")

    def mapped(match: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        target = _SITE_PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else "")
        return match[0] if not target else posixpath.relpath(target, posixpath.dirname(page) or ".")

    return _LINK.sub(mapped, markdown)


def with_plain_bars(markdown: str) -> str:
    """Returns the text without the escapes of | in the code of table rows, that GitHub needs and MkDocs prints."""
    return _TABLE_ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown)
