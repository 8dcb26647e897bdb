"""The project's sample for tests that need an archive of it: few pictures, and small ones."""

from __future__ import annotations

from pathlib import Path

from atoll_stages.sample.field import ARCHIVE, SampleSpec, write_archive

SAMPLE_IMAGES = 32
SIZE = (192, 144)


def draw(folder: Path) -> Path:
    """Draw `field.tar` into the folder; a fixture of tests/conftest.py does so once for all tests."""
    write_archive(SampleSpec(0, SAMPLE_IMAGES, SIZE, 0), folder, 1, lambda: None)
    return folder / ARCHIVE
