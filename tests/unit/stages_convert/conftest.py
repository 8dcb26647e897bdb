from pathlib import Path

import pytest

from support.convert_stage import ConvertStage


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    """A convert stage with an empty store."""
    return ConvertStage(tmp_path)
