"""The time that a stage would have taken on a machine that does nothing else."""

import os
import time
from pathlib import Path

import pytest

from atoll_stages.runtime.process_time import undisturbed_seconds


def proc(folder: Path, *, began: float, waited: float) -> Path:
    """A process that began so many seconds after the machine, and waited so many for a processor."""
    ticks = int(began * os.sysconf("SC_CLK_TCK"))
    folder.joinpath("stat").write_text(f"77 (a (strange) name) S {' '.join(['0'] * 18)} {ticks} 0 0\n")
    folder.joinpath("schedstat").write_text(f"4000000000 {int(waited * 1e9)} 120\n")
    return folder


def test_what_it_waits_for_a_processor_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: {time.CLOCK_BOOTTIME: 1000.0}[clock])
    assert undisturbed_seconds(proc(tmp_path, began=800, waited=0)) == 200
    assert undisturbed_seconds(proc(tmp_path, began=800, waited=150)) == 50
    assert undisturbed_seconds(proc(tmp_path, began=999.9, waited=5)) == 1


@pytest.mark.parametrize("name", ["stat", "schedstat"])
def test_where_the_system_does_not_tell_nothing_is_told(tmp_path: Path, name: str) -> None:
    proc(tmp_path, began=0, waited=0).joinpath(name).unlink()
    assert undisturbed_seconds(tmp_path) is None
    tmp_path.joinpath(name).write_text("?\n")
    assert undisturbed_seconds(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell")
def test_of_this_process_it_is_told() -> None:
    assert (undisturbed_seconds() or 0) > 0
