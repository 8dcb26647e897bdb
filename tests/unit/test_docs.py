"""The pages name tests and files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def _prose(page: Path) -> str:
    return re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/.-]+)(?:::(\w+))?", page.read_text(encoding="utf-8"))
    for path, function in named:
        assert (ROOT / path).exists(), f"{page.name} names {path}"
        if function:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {function}(" in text, f"{page.name} names {path}::{function}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"(?<=\w)\]\(([\w./-]+)[)#]", _prose(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
