"""The processors that a container may use."""

from pathlib import Path

import pytest

from atoll_stages.runtime.cpus import available_cpus


def test_there_is_a_processor() -> None:
    assert available_cpus() > 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu.max": "1000 100000\n"}, 0.1),
    ],
    ids=["version-2", "version-1", "hardly-any"],
)
def test_the_limit_of_the_control_group_counts(tmp_path: Path, files: dict[str, str], limit: float) -> None:
    write(tmp_path, files)
    assert available_cpus(tmp_path) == pytest.approx(limit)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu.max": "max 100000\n"},
        {"cpu.max": "not a limit"},
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
    ],
    ids=["no-group", "no-limit", "unreadable", "version-1-without-limit"],
)
def test_without_a_limit_the_affinity_counts(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    assert available_cpus(tmp_path) == available_cpus(tmp_path / "nothing") >= 1


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
