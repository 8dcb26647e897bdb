"""Two processes that really train, killed one after the other, and their engine: the weights are those of the
undisturbed run."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.polling import wait_until
from support.trained_run import ARCHIVE, TrainedRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: noop }
spec:
  datasets: [{ key: datasets/local/field.tar }]
  model: { architecture: ssd-mobilenet-v2-fpnlite-192, width: "0.35" }
  training:
    workers: 2
    initFrom: { type: random }
    steps: 48
    batchSize: 4
    checkpointEverySteps: 4
    evalEverySteps: 24
  publish: { model: noop }
"""
SECONDS = 900


@pytest.fixture
def runs(tmp_path: Path, sample_archive: Path) -> Iterator[tuple[TrainedRun, TrainedRun]]:
    made = []
    for name in ("undisturbed", "disturbed"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(sample_archive, folder / ARCHIVE)
        made.append(TrainedRun(folder, RUN))
    yield made[0], made[1]
    for run in made:
        kill(run.processes())


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_worker(run: TrainedRun, index: int, *, attempt: int, at: int) -> None:
    """Kills the worker's processes once the attempt has reached the step `at`, and waits for the next attempt."""
    wait_until(lambda: run.step(attempt) >= at, what=f"step {at} of attempt {attempt}", timeout_seconds=SECONDS)
    victims = run.workers(index)
    assert victims
    kill(victims)
    wait_until(lambda: run.attempts() > attempt, what=f"attempt {attempt + 1}", timeout_seconds=SECONDS)


def listening(pids: list[int]) -> set[str]:
    """The addresses, in hexadecimal, at which the processes listen for TCP."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_kills_of_either_worker_and_of_the_engine_change_no_weight(runs: tuple[TrainedRun, TrainedRun]) -> None:
    undisturbed, disturbed = runs
    weights = undisturbed.finish(seconds=SECONDS)

    engine = disturbed.start()
    kill_worker(disturbed, 0, attempt=1, at=1)
    kill_worker(disturbed, 1, attempt=2, at=16)
    wait_until(lambda: disturbed.step(3) >= 32, what="step 32 of attempt 3", timeout_seconds=SECONDS)
    # Loopback would be 0100007F; once TensorFlow can be told so, `atoll run` need not warn.
    assert listening(disturbed.workers(1)) - {"0100007F"} != set()
    engine.kill()
    engine.communicate(timeout=SECONDS)
    wait_until(lambda: not disturbed.processes(), what="the end of the workers", timeout_seconds=SECONDS)
    (message,) = disturbed.store.glob(".atoll/engine/local/noop/jobs/*-train-3-*/train.json")
    assert json.loads(message.read_text())["reason"] == "Suspended"
    assert disturbed.finish(seconds=SECONDS) == weights

    record = json.loads((disturbed.store / ".atoll/engine/local/noop/run.json").read_text())
    assert record["status"]["phase"] == "Succeeded"
