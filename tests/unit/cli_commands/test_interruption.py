"""Ctrl-C on `atoll run`: once suspends with a checkpoint, twice ends at once; the same command goes on."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.noop_run import NoopRun
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def noop(tmp_path: Path) -> Iterator[NoopRun]:
    run = NoopRun(tmp_path)
    run.plan(train={"steps": 100_000, "seconds": 0.01})
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def training(noop: NoopRun) -> "subprocess.Popen[bytes]":
    """The command, with a checkpoint written."""
    engine = noop.start()
    checkpoints = noop.store / "runs/local"
    wait_until(lambda: list(checkpoints.glob("*/train/checkpoints/step")), what="a checkpoint", timeout_seconds=100)
    return engine


def stderr_of(engine: "subprocess.Popen[bytes]") -> str:
    assert engine.stderr is not None
    with engine.stderr:
        return engine.stderr.read().decode()


def phase(noop: NoopRun) -> str:
    record = json.loads((noop.store / ".atoll/engine/local/noop/run.json").read_text())
    return str(record["status"]["phase"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_suspended_and_goes_on(noop: NoopRun, number: signal.Signals) -> None:
    engine = training(noop)
    engine.send_signal(number)
    assert engine.wait(timeout=100) == 130
    printed = stderr_of(engine)
    assert "suspending" in printed
    assert "Traceback" not in printed
    assert phase(noop) == "Suspended"
    noop.plan()
    again = noop.start()
    assert again.wait(timeout=150) == 0
    assert "going on with run noop" in stderr_of(again)
    assert noop.calls() == ["convert", "train", "train", "export", "publish"]


def test_a_second_signal_ends_the_stage_at_once(noop: NoopRun) -> None:
    engine = training(noop)
    engine.send_signal(signal.SIGINT)
    wait_until(lambda: engine.poll() is not None or _is_suspending(engine), what="an answer", timeout_seconds=30)
    engine.send_signal(signal.SIGINT)
    assert engine.wait(timeout=60) == 130
    stderr_of(engine)
    assert phase(noop) == "Suspended"


def _is_suspending(engine: "subprocess.Popen[bytes]") -> bool:
    assert engine.stderr is not None
    return b"suspending" in engine.stderr.readline()
