"""docs/architecture.md and its drawing describe the sources as they are."""

import re

import pytest

from support.architecture_drawing import FILE, draw
from support.house import ROOT, SOURCE_ROOTS

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_drawing_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == draw(), "run `make docs`"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(atoll_[a-z]+/[\w/.]+)`", PAGE))))
def test_a_named_file_exists(path: str) -> None:
    assert (SOURCE_ROOTS[path.split("/")[0]] / path).exists()
