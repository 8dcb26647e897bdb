"""The counter of memory kills, as both versions of control groups write it."""

from pathlib import Path

import pytest

from atoll_contract.errors import ExitCode, Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import parse_result
from atoll_stages.runtime.exit_result import ChildExit, exit_result, oom_kills


@pytest.mark.parametrize(
    ("group", "file", "text"),
    [
        ("0::/", "memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("0::/user.slice/a", "user.slice/a/memory.events", "oom_kill 2\n"),
        ("5:cpu:/x\n4:memory:/docker/7", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_of_the_own_group_are_counted(tmp_path: Path, group: str, file: str, text: str) -> None:
    own = tmp_path / "self"
    own.write_text(group + "\n")
    counter = tmp_path / "cgroup" / file
    counter.parent.mkdir(parents=True)
    counter.write_text(text)
    assert oom_kills(cgroups=tmp_path / "cgroup", own=own) == 2


def test_where_nothing_counts_kills_there_is_no_number(tmp_path: Path) -> None:
    assert oom_kills(cgroups=tmp_path, own=tmp_path / "none") is None


def test_a_kill_is_for_memory_only_where_the_kernel_counted_one() -> None:
    def end(*, out_of_memory: bool) -> tuple[int, Reason]:
        child = ChildExit(-9, b"", "", interrupted_at=None, out_of_memory=out_of_memory)
        result = exit_result(Stage.TRAIN, 1, child)
        return result.code, parse_result(result.message).reason

    assert end(out_of_memory=True) == (ExitCode.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)
    assert end(out_of_memory=False) == (137, Reason.INTERNAL_ERROR)
