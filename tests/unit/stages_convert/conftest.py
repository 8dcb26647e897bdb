from pathlib import Path

import pytest
from hypothesis import settings

from support.convert_stage import ConvertStage

# No timed assertions: a busy machine fails none of these tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    """A convert stage with an empty store."""
    return ConvertStage(tmp_path)
