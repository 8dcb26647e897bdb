"""Several workers of one training, as processes on loopback: equal weights, one stop for all, the loss of one."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_stages.train.history import Progression
from atoll_stages.train.workers import Workers

TESTS = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What two workers saw of the trainings of `support.training_worker`."""
    folder = tmp_path_factory.mktemp("workers")
    ports = ",".join(str(port) for port in free_ports(2))
    command = [sys.executable, "-m", "support.training_worker"]
    environ = {"PYTHONPATH": str(TESTS), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": os.environ["PATH"]}
    with ExitStack() as stack:
        workers = []
        for index in range(2):
            errors = stack.enter_context((folder / f"errors-{index}").open("wb"))
            own = [*command, str(index), ports, str(folder)]
            worker = subprocess.Popen(own, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True)
            workers.append(stack.enter_context(worker))
            stack.callback(worker.kill)
        outputs = [worker.communicate(timeout=500)[0] for worker in workers]
    text = (folder / "errors-0").read_text(errors="replace")
    assert [worker.returncode for worker in workers] == [0, 9], text[-2000:]
    first, second = ([json.loads(line) for line in output.splitlines()] for output in outputs)
    return first, second


pytestmark = pytest.mark.timeout(600)
Seen = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def test_all_workers_have_the_same_weights_and_each_loads_its_part(seen: Seen) -> None:
    first, second = seen
    assert (first[0]["step"], second[0]["step"]) == (6, None)
    assert first[0]["state"] == second[0]["state"]
    assert (first[0]["rows"], second[0]["rows"]) == (2, 2)


def test_one_worker_that_is_asked_to_end_ends_all_at_the_same_step_and_the_first_saves(seen: Seen) -> None:
    first, second = seen
    assert first[1]["reason"] == second[1]["reason"] == "Suspended"
    assert first[1]["state"] == second[1]["state"]
    assert first[2]["from"] == second[2]["from"] == 4


def test_resumed_workers_end_with_the_weights_of_an_undisturbed_training(seen: Seen) -> None:
    first, second = seen
    assert first[2]["state"] == second[2]["state"] == first[0]["state"]


@pytest.mark.parametrize(("training", "again", "steps"), [(0, 4, 6), (3, 5, 2)])
def test_the_end_of_a_training_changes_no_weight_after_its_last_checkpoint(
    seen: Seen, training: int, again: int, steps: int
) -> None:
    for worker in seen:
        assert worker[again]["from"] == steps
        assert worker[again]["state"] == worker[training]["state"]


def test_another_worker_knows_which_checkpoints_the_first_has_stored(seen: Seen) -> None:
    first, second = seen
    assert [item["stored"] for item in second] == [[3, 6], [3], [4, 6], [2], [6], []]
    assert [item["stored"] for item in first] == [[]] * 7


def test_early_stopping_on_the_first_worker_ends_the_others(seen: Seen) -> None:
    first, second = seen
    assert (first[3]["step"], second[3]["step"]) == (2, None)
    assert "reason" not in second[3]


def test_a_worker_that_dies_ends_the_other_with_peer_lost(seen: Seen) -> None:
    first, second = seen
    assert len(second) == len(first) - 1
    assert first[-1]["reason"] == "PeerLost"
    assert first[-1]["message"].startswith("worker 0 of 2 (counted from 0) has lost another one: ")
    assert "\n" not in first[-1]["message"]


def test_the_rows_of_all_workers_are_the_whole_batch() -> None:
    addresses = ("a:1", "b:1", "c:1")
    rows = [list(Workers(addresses, index).rows(12)) for index in range(3)]
    assert rows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert list(Workers().rows(5)) == [0, 1, 2, 3, 4]


def test_the_history_says_from_which_step_on_another_number_of_workers_trained() -> None:
    assert Progression().with_workers(1).describe_workers() == {}
    begun = Progression().with_workers(2)
    assert begun.describe_workers() == {"workers": "2"}
    resumed = Progression(step=40, workers=begun.workers).with_workers(1)
    assert resumed.describe_workers() == {"workers": "2, 1 from step 40 on"}
    # A second attempt with a third number before any further step replaces the one that trained nothing.
    assert resumed.with_workers(3).describe_workers() == {"workers": "2, 3 from step 40 on"}
    assert Progression(step=9).with_workers(4).describe_workers() == {"workers": "1, 4 from step 9 on"}


def given(addresses: tuple[str, ...] | None) -> StageInput:
    store = StoreSpec(StoreType.DIRECTORY, path="/s")
    return StageInput(Stage.TRAIN, 1, RunRef("n", "run", "u"), store, worker_addresses=addresses)


def test_a_worker_reads_its_index_from_the_environment() -> None:
    assert given(None).worker({"JOB_COMPLETION_INDEX": "7"}) == 0
    assert given(("a:1", "b:1")).worker({"JOB_COMPLETION_INDEX": "1"}) == 1


@pytest.mark.parametrize("text", ["", "2", "-1", "one"])
def test_an_index_that_is_no_worker_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=f"JOB_COMPLETION_INDEX is '{text}'; with 2 workers .* from 0 to 1"):
        given(("a:1", "b:1")).worker({"JOB_COMPLETION_INDEX": text})
