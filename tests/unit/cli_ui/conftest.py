from collections.abc import Iterator
from pathlib import Path

import pytest

from support.local_page import LocalPage


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPage]:
    """The page, whose runs end with it."""
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with LocalPage(tmp_path) as served:
        yield served
