"""A Job of several processes on this machine: index 0 decides, and the others end with it."""

import queue
import sys
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.local.jobs import LocalJobs, with_own_python
from atoll_cli.local.process import StageProcess, is_alive, start_time
from atoll_cli.local.state import RunFolder
from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec, DatasetSource
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_INPUT, Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_operator.lifecycle.model import JobState
from support.archives import packed, supervisely

DEADLINE_SECONDS = 90
SHARDS = 3


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Process id and start time of every process that a Job starts."""
    found: list[tuple[int, str]] = []
    begin = StageProcess.__init__

    def noted(self: StageProcess, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        found.append((self.pid, start_time(self.pid)))

    monkeypatch.setattr(StageProcess, "__init__", noted)
    return found


def manifest(store: Path, key: str) -> dict[str, Any]:
    given = StageInput(
        stage=Stage.CONVERT,
        attempt=1,
        run=RunRef("local", "run", "uid"),
        store=StoreSpec(StoreType.DIRECTORY, path=str(store)),
        convert=ConvertSpec(sources=(DatasetSource(key),), shards=SHARDS),
    )
    container = {
        "command": ["python", "-P", "-m", "atoll_stages.convert"],
        "env": [{"name": ENV_INPUT, "value": given.to_env()[ENV_INPUT]}],
    }
    return {
        "metadata": {"name": "run-convert-1", "labels": {"atoll.dev/stage": "convert", "atoll.dev/attempt": "1"}},
        "spec": {
            "activeDeadlineSeconds": 600,
            "completions": SHARDS,
            "template": {"spec": {"containers": [container], "terminationGracePeriodSeconds": 20}},
        },
    }


@pytest.mark.parametrize(
    ("archive", "state"),
    [(packed(supervisely(20), ".tar"), JobState.SUCCEEDED), (b"no archive", JobState.FAILED)],
    ids=["good", "bad"],
)
def test_shards_run_beside_index_0_and_end_with_it(
    tmp_path: Path, started: list[tuple[int, str]], archive: bytes, state: JobState
) -> None:
    store = tmp_path / "store"
    key = keys.dataset("local", "a.tar")
    (store / key).parent.mkdir(parents=True)
    (store / key).write_bytes(archive)
    ended: queue.Queue[bool] = queue.Queue()
    folder = RunFolder(tmp_path / "state", "local", "run")
    jobs = LocalJobs(
        folder, run_uid="uid", on_change=lambda over: ended.put(over) if over else None, command=with_own_python
    )
    jobs.create(manifest(store, key))
    assert ended.get(timeout=DEADLINE_SECONDS)
    (job,), (pod, *shards) = jobs.views()
    assert (job.state, pod.exit_code == 0) == (state, state is JobState.SUCCEEDED)
    # What each has used is counted.
    assert [(shard.index, shard.finished is not None) for shard in shards] == [(1, True), (2, True)]
    assert len(started) == SHARDS
    assert not any(is_alive(*process) for process in started)
    for index in range(1, SHARDS):
        text = (folder.job(job.name) / f"convert-1-shard-{index}.log").read_text(encoding="utf-8")
        assert f"as shard {index}" in text
        assert "Traceback" not in text


def test_whoever_kills_a_job_kills_its_shards(tmp_path: Path, started: list[tuple[int, str]]) -> None:
    ended: queue.Queue[bool] = queue.Queue()
    jobs = LocalJobs(
        RunFolder(tmp_path / "state", "local", "run"),
        run_uid="uid",
        on_change=lambda over: ended.put(over) if over else None,
        # Index 0 would end them at its end, and theirs is not to depend on it.
        command=lambda _stage, _command: [sys.executable, "-c", "import signal; signal.pause()"],
    )
    jobs.create(manifest(tmp_path / "store", "a.tar"))
    shards = started[: SHARDS - 1]
    assert all(is_alive(*process) for process in shards)
    jobs.kill_all()
    assert not any(is_alive(*process) for process in shards)
    assert ended.get(timeout=DEADLINE_SECONDS)
