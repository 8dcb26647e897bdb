from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.keys import imagenet_names
from support.local_page import LocalPage


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPage]:
    """The page, whose runs end with it, on a machine that has ImageNet weights."""
    weights = tmp_path / "weights" / imagenet_names(0.5)[0]
    weights.parent.mkdir()
    weights.write_bytes(b"never read here")
    monkeypatch.setenv("ATOLL_WEIGHTS_DIR", str(weights.parent))
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with LocalPage(tmp_path) as served:
        yield served
