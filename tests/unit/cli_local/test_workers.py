"""Several workers of a training as processes of this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_cli.local.launch import OPEN_PORTS
from atoll_cli.local.workers import worker_environments
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_INPUT, Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_operator.api.status import Phase
from support.noop_run import RUN, NoopRun
from support.polling import wait_until

pytestmark = pytest.mark.timeout(200)


def given(addresses: tuple[str, ...] | None) -> dict[str, str]:
    store = StoreSpec(StoreType.DIRECTORY, path="/s")
    own = StageInput(Stage.TRAIN, 1, RunRef("n", "run", "u"), store, worker_addresses=addresses)
    return {**own.to_env(), "ATOLL_POD_UID": "pod", "ATOLL_TERMINATION_LOG": "/jobs/x/train.json"}


def test_a_stage_without_workers_keeps_its_environment() -> None:
    environ = given(None)
    assert worker_environments(environ) == (environ,)


def test_each_worker_has_an_index_a_message_and_an_address_of_its_own() -> None:
    first, second = worker_environments(given(("a.svc:2222", "b.svc:2222")), cpus=8)
    assert [item["JOB_COMPLETION_INDEX"] for item in (first, second)] == ["0", "1"]
    assert [item["ATOLL_POD_UID"] for item in (first, second)] == ["pod", "pod-1"]
    assert second["ATOLL_TERMINATION_LOG"] == "/jobs/x/train-worker-1.json"
    assert first[ENV_INPUT] == second[ENV_INPUT]
    addresses = json.loads(first[ENV_INPUT])["workerAddresses"]
    assert len(set(addresses)) == 2
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_the_workers_share_the_processors_and_leave_the_gpu_alone() -> None:
    for environ in worker_environments(given(("a:1", "b:1", "c:1")), cpus=8):
        assert environ["TF_NUM_INTRAOP_THREADS"] == "2"
        assert environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    run = NoopRun(tmp_path, RUN + "  training: { workers: 3, batchSize: 12 }\n")
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def train_status(noop: NoopRun) -> dict[str, object]:
    record = json.loads((noop.store / ".atoll/engine/local/noop/run.json").read_text())
    return dict(next(item for item in record["status"]["stages"] if item["name"] == "train"))


def test_the_engine_starts_all_workers_and_takes_the_result_of_the_first(noop: NoopRun) -> None:
    noop.plan(train={"steps": 3, "seconds": 0.05})
    assert noop.launch().status.phase is Phase.SUCCEEDED
    assert noop.display.lines.count(OPEN_PORTS) == 1
    assert noop.calls().count("train") == 3
    assert noop.calls().count("export") == 1
    assert set(noop.outputs("train")) == {"weights", "history"}
    results = list(noop.store.glob("runs/*/*/train/*/result.json"))
    assert len(results) == 1


def test_nothing_is_said_of_ports_where_one_worker_trains_or_the_run_has_ended(noop: NoopRun, tmp_path: Path) -> None:
    noop.plan(train={"steps": 1, "seconds": 0.01})
    noop.launch()
    assert noop.launch().recalled
    assert noop.display.lines.count(OPEN_PORTS) == 1
    (tmp_path / "lone").mkdir()
    lone = NoopRun(tmp_path / "lone")
    assert lone.launch().status.phase is Phase.SUCCEEDED
    assert OPEN_PORTS not in lone.display.lines


def test_a_worker_that_is_killed_is_a_new_attempt_of_all(noop: NoopRun) -> None:
    noop.plan(train={"steps": 40, "seconds": 0.1, "killedWorker": 2})
    assert noop.launch().status.phase is Phase.SUCCEEDED
    assert train_status(noop)["attempts"] == 2
    assert noop.calls().count("train") == 6
    # The second attempt goes on from what the first has saved.
    assert set(noop.outputs("train")) == {"weights", "history"}
