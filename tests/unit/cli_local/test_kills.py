"""`kill -9` of the engine and of stages: the same command again ends with the same release, and leaves no process.

Two kills of each by default; `ATOLL_KILLS=25` runs the long form.
"""

import hashlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from support.noop_run import NoopRun
from support.polling import wait_until

KILLS = int(os.environ.get("ATOLL_KILLS", "2"))
pytestmark = pytest.mark.timeout(200 + 100 * KILLS)


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    run = NoopRun(tmp_path)
    # Longer than the first two waits of each test, on any machine.
    run.plan(train={"steps": 60, "seconds": 0.05})
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def expected_outputs() -> dict[str, str]:
    """The outputs of the train stage of `noop_stages`, which depend only on their names."""
    contents = {name: hashlib.sha256(f"train {name}".encode()).digest() for name in ("weights", "history")}
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def kill_engine(noop: NoopRun, after: float) -> bool:
    """Start the command and kill it after `after` seconds; False if it ended before."""
    engine = noop.start()
    try:
        engine.wait(timeout=after)
    except subprocess.TimeoutExpired:
        return True
    finally:
        end(engine)
    return False


def end(engine: "subprocess.Popen[bytes]") -> None:
    engine.kill()
    engine.wait(timeout=30)
    assert engine.stderr is not None
    engine.stderr.close()


def test_a_run_survives_kills_of_its_engine(noop: NoopRun) -> None:
    rng = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        killed += kill_engine(noop, rng.uniform(0.5, 6.0))
    result = noop.launch()
    assert killed
    assert result.status.phase is Phase.SUCCEEDED
    assert noop.manifests() == ["v1"]
    assert noop.outputs("train") == expected_outputs()
    # An interrupted attempt costs none of the run's tries.
    assert all(stage.failures == 0 for stage in result.status.stages)


def kill_stage(noop: NoopRun, rng: random.Random, *, whole: bool) -> None:
    """Start the command and, as soon as a stage works, kill its processes: one or two of them, or `whole` all."""
    engine = noop.start()
    started = len(noop.calls())
    wait_until(lambda: len(noop.calls()) > started or engine.poll() is not None, what="a stage", timeout_seconds=100)
    victims = [pid for pid in noop.processes() if pid != engine.pid]
    victims = [engine.pid, *victims] if whole else victims[: rng.randint(1, 2)]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not whole:
        engine.wait(timeout=150)
    end(engine)


@pytest.mark.parametrize("whole", [False, True], ids=["stage", "stage-and-engine"])
def test_a_run_survives_kills_of_its_stages(noop: NoopRun, whole: bool) -> None:
    rng = random.Random(8)
    for _ in range(max(1, KILLS // 2)):
        kill_stage(noop, rng, whole=whole)
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    assert noop.manifests() == ["v1"]
    assert noop.outputs("train") == expected_outputs()


def test_O38_cuts_that_each_come_after_a_new_checkpoint_use_up_no_backoff_limit(noop: NoopRun) -> None:
    noop.plan(train={"steps": 8, "seconds": 0.01, "cutEvery": 2})
    result = noop.launch()
    train = result.status.stage(Stage.TRAIN)
    assert result.status.phase is Phase.SUCCEEDED, result.status.message
    assert noop.calls().count("train") == 4
    assert (train.checkpoint_step or 0) >= 6
    assert train.failures <= 1


def test_a_killed_engine_leaves_no_process(noop: NoopRun) -> None:
    noop.plan(train={"steps": 100_000, "seconds": 0.02})
    engine = noop.start()
    wait_until(lambda: "train" in noop.calls(), what="train", timeout_seconds=100)
    end(engine)
    wait_until(lambda: not noop.processes(), what="the end of the stage", timeout_seconds=60)
