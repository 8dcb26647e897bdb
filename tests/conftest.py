"""What holds for every test: property tests are never judged by the clock, so a busy machine fails none of them.

It adds the markers of the tests that need other people's programs."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exports: writes data sets by other people's libraries; `make test-exports`")
    config.addinivalue_line("markers", "kueue: needs Kueue, built from its Go module; `make test-kueue`")
    config.addinivalue_line("markers", "targets: compiles with the vendors' tools; `make test-targets`")


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`field.tar` of the project's sample, small: `SAMPLE_IMAGES` of support.sample_archive."""
    from support.sample_archive import draw

    return draw(tmp_path_factory.mktemp("sample"))
