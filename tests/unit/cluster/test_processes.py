"""What the bench starts it stops, and what a crashed bench left is removed by the next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.processes import LEDGER, ProcessError, ProcessGroup, read_ledger, runs_folder, start_time
from support.polling import wait_until

CRASHING_OWNER = """
import os
from cluster.processes import ProcessGroup
group = ProcessGroup("crash")
group.start("sleeper", ["sleep", "300"])
print(group.folder, group.pid("sleeper"), flush=True)
os._exit(9)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_TEST_CACHE", str(tmp_path))


@pytest.fixture
def group() -> Iterator[ProcessGroup]:
    group = ProcessGroup("test")
    yield group
    group.close()


def test_close_ends_every_child_and_removes_the_folder(group: ProcessGroup) -> None:
    group.start("one", ["sleep", "300"])
    group.start("two", ["sleep", "300"])
    pids = [group.pid("one"), group.pid("two")]
    group.close()
    assert [start_time(pid) for pid in pids] == ["", ""]
    assert not group.folder.exists()


def test_a_child_that_ends_early_is_told_with_its_log(group: ProcessGroup) -> None:
    group.start("failing", ["sh", "-c", "echo no such flag; exit 3"])
    wait_until(lambda: start_time(group.pid("failing")) == "", what="the child to end")
    with pytest.raises(ProcessError, match=r"failing ended with exit code 3(.|\n)*no such flag"):
        group.check("failing")


def test_a_child_that_ignores_sigterm_is_killed(group: ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.processes.STOP_GRACE_SECONDS", 0.2)
    group.start("stubborn", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
    pid = group.pid("stubborn")
    wait_until(lambda: "ready" in group.log_tail("stubborn"), what="the trap")
    group.stop("stubborn")
    assert start_time(pid) == ""


def test_what_a_crashed_owner_left_is_removed_by_the_next() -> None:
    folder, pid = _crash()
    assert start_time(pid) != ""
    ProcessGroup("next").close()
    assert start_time(pid) == ""
    assert not folder.exists()


def test_a_living_owner_is_left_alone(group: ProcessGroup) -> None:
    group.start("sleeper", ["sleep", "300"])
    ProcessGroup("other").close()
    group.check("sleeper")
    assert group.folder.exists()


def test_a_process_that_took_over_a_recorded_id_is_left_alone() -> None:
    folder, pid = _crash()
    ledger = folder / LEDGER
    owner, child = ledger.read_text(encoding="utf-8").splitlines()
    # As if the recorded child had ended long ago and its id had been given to another process.
    ledger.write_text(f"{owner}\n{child.replace(start_time(pid), '1')}\n", encoding="utf-8")
    ProcessGroup("next").close()
    assert start_time(pid) != ""
    os.kill(pid, 9)


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    ledger = tmp_path / LEDGER
    ledger.write_text('{"name": "owner", "pid": 1, "started": "5"}\n{"name": "et', encoding="utf-8")
    assert [record.name for record in read_ledger(ledger)] == ["owner"]


def _crash() -> tuple[Path, int]:
    """Folder and child's id of an owner that died without cleaning up."""
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", CRASHING_OWNER],
        env=os.environ | {"PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    folder, pid = done.stdout.split()
    assert Path(folder).parent == runs_folder()
    return Path(folder), int(pid)
