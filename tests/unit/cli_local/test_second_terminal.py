"""The commands about a run beside the engine that works on it: each is typed in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_cli.local.state import RunFolder, read_record, write_record
from atoll_contract.document import replace
from atoll_contract.stage import ENV_POD_UID
from support.noop_run import RUN, STAGES, NoopRun
from support.polling import wait_until

pytestmark = pytest.mark.timeout(400)

# `atoll` whose engine starts stages that do no work.
ATOLL = (
    "import sys, atoll_cli.local.launch as launch, support.noop_run as noop; "
    "launch.launch.__kwdefaults__['command'] = noop.noop_command; "
    "from atoll_cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    """A run beside its store `atoll-store`, whose processes are all gone afterwards."""
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    run = NoopRun(tmp_path)
    run.store = tmp_path / "atoll-store"
    run.plan(train={"steps": 100_000, "seconds": 0.02})
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def start(noop: NoopRun, *arguments: str, log: Path | None = None) -> "subprocess.Popen[str]":
    """Start `atoll` in the folder of the run, as somebody without a cluster does; what it says goes to `log`."""
    environ = {**os.environ, "PYTHONPATH": str(STAGES.parents[1]), "HOME": str(noop.folder), "KUBECONFIG": ""}
    environ.pop(ENV_POD_UID, None)
    command = [sys.executable, "-P", "-c", ATOLL, *arguments]
    if log is not None:
        with log.open("w") as file:
            return subprocess.Popen(command, cwd=noop.folder, env=environ, stdout=file, stderr=file, text=True)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=noop.folder, env=environ, stdout=pipe, stderr=pipe, text=True)


def atoll(noop: NoopRun, *arguments: str, code: int = 0) -> str:
    """What the command prints; standard error after standard output."""
    return ended(start(noop, *arguments), code=code)


def ended(process: "subprocess.Popen[str]", *, code: int) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, out + err
    return out + err


def wait_for_training(noop: NoopRun, times: int = 1) -> None:
    checkpoint = noop.store / "runs/local"
    wait_until(
        lambda: noop.calls().count("train") >= times and list(checkpoint.glob("*/train/checkpoints/step")),
        what="training",
        timeout_seconds=100,
    )


def test_a_run_is_watched_suspended_and_resumed_from_another_terminal(noop: NoopRun) -> None:
    engine = start(noop, "run", "-f", "run.yaml")
    wait_for_training(noop)
    said_while_waiting = noop.folder / "wait.log"
    waiting = start(noop, "wait", "noop", log=said_while_waiting)
    following = start(noop, "logs", "noop", "-f", "--stage", "train")

    listed = atoll(noop, "status").splitlines()
    assert listed[0].split() == ["NAME", "PHASE", "REASON", "PROGRESS", "AP50", "TARGETS", "RELEASE", "AGE"]
    assert listed[1].split()[:2] == ["noop", "Training"]
    shown = json.loads(atoll(noop, "status", "noop", "--json"))
    # Newer than what the record has, which is written every 30 s.
    assert shown["status"]["progress"]["step"] > 0
    assert "step" in atoll(noop, "logs", "noop")
    assert "convert" in atoll(noop, "logs", "noop", "--stage", "convert")
    assert "at work" in atoll(noop, "resume", "noop", code=20)

    assert "atoll resume noop" in atoll(noop, "suspend", "noop")
    said = ended(engine, code=130)
    assert "asked to suspend by another command" in said
    assert "atoll resume noop" in said
    assert "noop: Suspended" in ended(following, code=0)
    assert "Suspended" in atoll(noop, "status")
    assert "suspended already" in atoll(noop, "suspend", "noop")

    advice = "run noop is suspended; atoll resume noop lets it go on"
    wait_until(lambda: advice in said_while_waiting.read_text(), what="the word of atoll wait", timeout_seconds=60)

    noop.plan()
    assert "noop: Succeeded" in atoll(noop, "resume", "noop")
    assert noop.calls() == ["convert", "train", "train", "export", "publish"]
    assert waiting.wait(timeout=150) == 0
    assert "noop: Succeeded" in said_while_waiting.read_text()
    row = atoll(noop, "status").splitlines()[1].split()
    assert row[:5] == ["noop", "Succeeded", "Completed", "100%", "0.88"]
    assert "noop-v1" in row
    assert "ended already: Succeeded" in atoll(noop, "resume", "noop", code=20)
    assert "only a failed run" in atoll(noop, "retry", "noop", code=20)


def test_a_failed_run_is_listed_and_tried_again(noop: NoopRun) -> None:
    noop.plan(export={"fail": "QualityGateFailed", "times": 2})
    atoll(noop, "run", "-f", "run.yaml", code=45)
    assert atoll(noop, "status").splitlines()[1].split()[:3] == ["noop", "Failed", "QualityGateFailed"]
    assert "fails by plan" in atoll(noop, "status", "noop")
    assert "noop: Failed" in atoll(noop, "wait", "noop", code=45)
    assert "atoll retry noop" in atoll(noop, "resume", "noop", code=20)
    assert "atoll retry noop" in atoll(noop, "suspend", "noop", code=20)
    atoll(noop, "retry", "noop", code=45)
    assert noop.calls() == ["convert", "train", "export", "export"]
    atoll(noop, "retry", "noop", "--stage", "train")
    assert noop.calls()[4:] == ["train", "export", "publish"]


def test_a_run_whose_engine_was_killed_is_not_shown_as_at_work(noop: NoopRun) -> None:
    engine = start(noop, "run", "-f", "run.yaml")
    wait_for_training(noop)
    engine.kill()
    engine.communicate(timeout=60)
    shown = " ".join(atoll(noop, "status", "noop").split())
    assert "noop: Suspended" in shown
    assert "Running" not in shown
    assert "interrupted (Training): no engine works on it; atoll resume noop goes on with it" in shown
    assert "atoll resume noop" in atoll(noop, "logs", "noop", "-f")
    assert "124" not in atoll(noop, "wait", "noop", "--timeout", "1s", code=124)
    started = noop.calls()
    assert "run noop in" in (said := atoll(noop, "cancel", "noop"))
    assert "is cancelled" in said
    assert "Cancelled" in atoll(noop, "status")
    assert noop.calls() == started
    assert "ended already: Cancelled" in atoll(noop, "resume", "noop", code=20)


def test_a_run_at_work_is_cancelled_from_another_terminal(noop: NoopRun) -> None:
    engine = start(noop, "run", "-f", "run.yaml")
    wait_for_training(noop)
    assert "asked to end" in atoll(noop, "cancel", "noop")
    assert "Cancelled" in ended(engine, code=3)


def test_the_store_may_be_named_from_elsewhere(noop: NoopRun, tmp_path: Path) -> None:
    noop.plan()
    atoll(noop, "run", "-f", "run.yaml")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    away = NoopRun(elsewhere)
    assert "noop-v1" in atoll(away, "status", "--store", str(noop.store))
    refused = atoll(away, "status", "nope", "--store", str(noop.store), code=20)
    assert "known there: noop" in refused
    for command in ("status", "logs x", "wait x", "suspend x", "resume x", "retry x", "cancel x", "report x"):
        said = atoll(away, *command.split(), code=20)
        assert said.startswith(f"error: there is no atoll-store in {elsewhere}")
        assert "--store DIR" in said
        assert "kube" not in said


def test_a_record_of_an_earlier_version_goes_on_if_its_store_is_known(noop: NoopRun) -> None:
    noop.plan(train={"fail": "TrainingDiverged", "times": 2})
    atoll(noop, "run", "-f", "run.yaml", code=40)
    folder = RunFolder(noop.store, "local", "noop")
    record = read_record(folder)
    assert record is not None
    write_record(folder, replace(record, stores=None, inputs=None, signing_key=None))
    atoll(noop, "retry", "noop", code=40)
    write_record(folder, replace(record, stores=None, inputs=None, signing_key=None))
    (noop.store / "runs").rename(noop.store / "elsewhere")
    assert "atoll run -f FILE" in atoll(noop, "retry", "noop", code=20)


def test_a_damaged_run_is_told_and_hides_no_other(noop: NoopRun) -> None:
    noop.plan()
    atoll(noop, "run", "-f", "run.yaml")
    other = noop.store / ".atoll/engine/local/other/run.json"
    other.parent.mkdir(parents=True)
    other.write_text("{")
    shown = atoll(noop, "status")
    assert "noop-v1" in shown
    assert "warning: run other is left out" in shown


def test_what_the_file_says_of_its_store_is_kept_for_resume(noop: NoopRun) -> None:
    bucket = (
        "---\napiVersion: atoll.dev/v1alpha1\nkind: ObjectStore\n"
        "metadata: { name: default, annotations: { atoll.dev/directory: ./bucket } }\n"
        "spec: { bucket: frc, credentials: { anonymous: true } }\n"
    )
    noop.file.write_text(f"{RUN}{bucket}")
    noop.plan(train={"fail": "TrainingDiverged", "times": 1})
    atoll(noop, "run", "-f", "run.yaml", code=40)
    noop.file.unlink()
    atoll(noop, "retry", "noop")
    assert list((noop.folder / "bucket/models").rglob("manifest.json"))
