"""docs/architecture.md and its drawings describe the sources as they are."""

import re
from types import ModuleType

import pytest

from support import architecture_drawing, runtime_drawing
from support.house import ROOT, SOURCE_ROOTS

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("drawing", [architecture_drawing, runtime_drawing], ids=lambda module: module.__name__)
def test_a_drawing_is_current(drawing: ModuleType) -> None:
    assert drawing.FILE.read_text(encoding="utf-8") == drawing.draw(), "run `make docs`"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(atoll_[a-z]+/[\w/.]+)`", PAGE))))
def test_a_named_file_exists(path: str) -> None:
    assert (SOURCE_ROOTS[path.split("/")[0]] / path).exists()
