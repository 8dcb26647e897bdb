"""The table of what each kind of problem means, and the page that explains it."""

from atoll_stages.convert.meanings import MEANINGS, anchor
from atoll_stages.convert.problems import Kind
from support.warning_table import PAGE, with_table


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Kind)


def test_the_page_has_the_table_of_today() -> None:
    assert with_table(PAGE.read_text()) == PAGE.read_text()


def test_an_anchor_is_the_kind_in_lower_case_with_hyphens() -> None:
    assert anchor(Kind.IMAGE_MISSING) == "docs/data.md#picture-missing"
    assert anchor(Kind.BOX_AROUND) == "docs/data.md#box-around"
