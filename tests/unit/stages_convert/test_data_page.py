"""docs/data.md has a place for every format, every kind of warning and every limit."""

import pytest

from atoll_contract.convert_spec import DatasetFormat, DatasetLimits
from atoll_stages.convert.meanings import anchor
from atoll_stages.convert.problems import Kind
from support.warning_table import PAGE

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", [form for form in DatasetFormat if form is not DatasetFormat.AUTO])
def test_a_format_has_a_row(form: DatasetFormat) -> None:
    assert f"\n| `{form}` | " in TEXT


@pytest.mark.parametrize("kind", Kind)
def test_the_anchor_that_a_warning_names_is_there_once(kind: Kind) -> None:
    page, _, name = anchor(kind).partition("#")
    assert page == "docs/data.md"
    assert TEXT.count(f'<a id="{name}"></a>') == 1


def test_the_limits_are_those_of_a_profile_that_sets_none() -> None:
    limits = DatasetLimits()
    section = " ".join(TEXT.partition("## Limits")[2].partition("\n## ")[0].split())
    assert limits.members == 10**6
    for text in (
        f"{limits.archive_bytes // 2**30} GiB, or {limits.expanded_bytes // 2**30} GiB and a million files unpacked",
        f"{limits.picture_pixels // 10**6} megapixels and {limits.picture_side:,} pixels a side",
        f"a label file {limits.annotation_bytes // 2**20} MiB",
        f"a data set {limits.classes:,} classes",
    ):
        assert text in section
