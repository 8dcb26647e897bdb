"""The pages that messages name: they exist, and become URLs of the site as `make docs-site` builds it."""

import re
from pathlib import Path

import pytest

from atoll_contract.errors import Reason, advice, linked

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"
SITE = "https://atoll.example/docs"


def test_the_advice_for_a_reason_names_a_heading_of_the_page() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", PAGE.read_text(encoding="utf-8"), re.M)}
    for reason in (Reason.DATASET_MALFORMED, Reason.SECRET_NOT_FOUND, Reason.QUALITY_GATE_FAILED):
        page, _, section = advice(reason).removeprefix("what to do: ").partition("#")
        assert page == "docs/troubleshooting.md"
        assert section in headings


@pytest.mark.parametrize("site", [SITE, f"{SITE}/"])
def test_a_section_becomes_a_url(site: str) -> None:
    said = "1 box is empty; see docs/data.md#box-empty; what to do: docs/troubleshooting.md#oom"
    assert linked(said, site) == f"1 box is empty; see {SITE}/data/#box-empty; what to do: {SITE}/troubleshooting/#oom"


def test_without_a_site_it_stays_a_path() -> None:
    assert linked("see docs/data.md#box-empty", "") == "see docs/data.md#box-empty"


@pytest.mark.parametrize("text", ["/x/docs/data.md#a", "mydocs/data.md#a", "docs/data.md", "docs/a/b.md#c"])
def test_a_users_own_file_stays_as_it_is(text: str) -> None:
    assert linked(text, SITE) == text
