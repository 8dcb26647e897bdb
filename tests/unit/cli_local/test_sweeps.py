"""`atoll sweep` with stages that do no work: its trials, its release, and how it goes on after a kill."""

import json
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from atoll_cli.commands.sweep import write_results
from atoll_cli.local.runfile import InvalidFile
from atoll_cli.local.sweep_state import local_sweep
from atoll_cli.main import main
from atoll_contract.errors import Reason, SpecError
from atoll_operator.api.sweep import SweepPhase
from atoll_operator.sweeps.trials import TrialState
from support.noop_sweep import HALVED, SWEEP, NoopSweep
from support.polling import wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="stages run on POSIX"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NoopSweep:
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    made = NoopSweep(tmp_path)
    made.plan()
    return made


def test_a_sweep_publishes_its_best_trial_alone_and_writes_a_report(sweep: NoopSweep) -> None:
    status = sweep.run()
    assert (status.phase, status.reason) == (SweepPhase.SUCCEEDED, Reason.COMPLETED)
    assert status.best is not None
    assert status.best.parameters == {"learningRate": "0.004"}
    assert status.best.ap50 == "0.900"
    assert sweep.releases() == ["v1"]
    runs = sweep.runs()
    assert len(runs) == 4
    phases = {name: run["status"]["phase"] for name, run in runs.items()}
    assert phases.pop(status.best.run) == "Succeeded"
    assert set(phases.values()) == {"Cancelled"}
    document = write_results(sweep.engine().folder, sweep.folder / "results")
    page = (sweep.folder / "results/sweep.html").read_text()
    assert page.count("<path ") == 4
    assert all(name in page for name in runs)
    assert "http" not in page
    assert document == json.loads((sweep.folder / "results/result.json").read_text())
    assert document["release"] == "ball-v1"
    assert Path(str(document["bundle"])).is_file()


def test_a_second_terminal_sees_and_cancels_a_sweep(
    sweep: NoopSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.plan(seconds=0.3)
    process = sweep.start()
    calls = sweep.folder / "calls"
    wait_until(lambda: calls.is_file() and "train" in calls.read_text(), what="a training", timeout_seconds=90)
    process.kill()
    process.wait(30)
    store = ["--store", str(sweep.store)]
    assert main(["status", *store]) == 0
    shown = capsys.readouterr().out
    assert "SWEEP" in shown
    assert "0/4" in shown
    assert main(["status", "ball", *store]) == 0
    shown = capsys.readouterr().out
    assert "ball-t00" in shown
    assert "0/4 trials ended" in shown
    monkeypatch.chdir(tmp_path)
    assert main(["report", "ball", "--no-open", *store]) == 0
    assert "ball-t00" in (tmp_path / "ball-sweep.html").read_text()
    assert main(["cancel", "ball", *store]) == 0
    assert "sweep ball" in capsys.readouterr().out
    assert local_sweep(sweep.store, "ball")[1].status["phase"] == "Cancelled"
    assert {run["status"]["phase"] for run in sweep.runs().values()} == {"Cancelled"}
    assert main(["cancel", "ball", *store]) == 20
    assert "sweep ball has ended already: Cancelled" in capsys.readouterr().err


def test_a_sweep_that_has_ended_is_recalled(sweep: NoopSweep) -> None:
    first = sweep.run()
    calls = (sweep.folder / "calls").read_text()
    assert sweep.run() == first
    assert (sweep.folder / "calls").read_text() == calls


def test_trials_wait_suspended_until_all_are_as_far_and_the_best_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    sweep = NoopSweep(tmp_path, HALVED)
    sweep.plan(steps=60, seconds=0.1)
    engine = sweep.engine()
    found = []
    thread = threading.Thread(target=lambda: found.append(engine.run()))
    thread.start()

    def reasons() -> list[str]:
        statuses = [run["status"] for run in sweep.runs().values()]
        return [item["message"] for item in statuses if item.get("phase") == "Suspended"]

    text = "waits at step 20 of 60: the sweep compares its trials there, and then resumes or ends it"
    wait_until(lambda: text in reasons(), what="a trial that waits", timeout_seconds=90)
    thread.join(200)
    assert [status.phase for status in found] == [SweepPhase.SUCCEEDED]
    assert found[0].best is not None
    assert found[0].best.parameters == {"learningRate": "0.004"}
    states = {trial.settings["learningRate"]: str(trial.state) for trial in sweep.trials()}
    ended = dict.fromkeys(("0.0001", "0.0004", "0.001", "0.04"), "Pruned")
    assert states == {**ended, "0.004": "Completed", "0.01": "Completed"}
    assert any("; waiting: ball-t00" in line for line in sweep.display.lines)
    assert sweep.releases() == ["v1"]


@pytest.mark.slow
def test_O59_killed_while_trials_wait_it_comes_to_the_same_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    sweep = NoopSweep(tmp_path, HALVED)
    sweep.plan(steps=60, seconds=0.1)
    calls = sweep.folder / "calls"

    def trainings() -> int:
        return calls.read_text().count("train") if calls.is_file() else 0

    for count in (2, 4, 6, 7):
        process = sweep.start()
        wait_until(partial(lambda least: trainings() >= least, count), what=f"training {count}", timeout_seconds=90)
        process.kill()
        process.wait(30)
    assert sweep.start().wait(200) == 0
    completed = {trial.settings["learningRate"] for trial in sweep.trials() if trial.state is TrialState.COMPLETED}
    assert completed == {"0.004", "0.01"}
    assert sweep.releases() == ["v1"]


def test_the_former_name_of_halving_is_no_other_setting(sweep: NoopSweep) -> None:
    sweep.run()
    (sweep.folder / "sweep.yaml").write_text(SWEEP + "  pruning: asha\n")
    assert sweep.run().phase is SweepPhase.SUCCEEDED


@pytest.mark.slow
def test_O59_killed_at_any_moment_it_comes_to_the_same_runs_and_one_release(sweep: NoopSweep, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = NoopSweep(tmp_path / "whole")
    whole.run()
    sweep.plan(seconds=0.1)
    calls = sweep.folder / "calls"

    def started() -> int:
        return len(calls.read_text().splitlines()) if calls.is_file() else 0

    for number in range(3):
        wanted = started() + number + 2
        process = sweep.start()
        wait_until(partial(lambda least: started() >= least, wanted), what="work", timeout_seconds=90)
        process.kill()
        process.wait(30)
    assert sweep.start().wait(200) == 0
    assert sweep.settings() == whole.settings()
    assert sweep.releases() == ["v1"]


def test_ctrl_c_suspends_and_the_same_command_goes_on(sweep: NoopSweep) -> None:
    sweep.plan(seconds=0.3)
    process = sweep.start()
    calls = sweep.folder / "calls"
    wait_until(lambda: calls.is_file() and "train" in calls.read_text(), what="a training", timeout_seconds=90)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert [run["status"]["phase"] for run in sweep.runs().values()] == ["Suspended"]
    sweep.plan()
    assert sweep.run().phase is SweepPhase.SUCCEEDED


def test_a_cancelled_sweep_ends_its_runs(sweep: NoopSweep) -> None:
    sweep.plan(seconds=0.5)
    engine = sweep.engine()
    found = []
    thread = threading.Thread(target=lambda: found.append(engine.run()))
    thread.start()
    wait_until(lambda: sweep.runs() or None, what="a trial", timeout_seconds=60)
    engine.folder.cancel_request.touch()
    thread.join(120)
    assert [status.phase for status in found] == [SweepPhase.CANCELLED]
    assert {run["status"]["phase"] for run in sweep.runs().values()} == {"Cancelled"}


def test_other_settings_under_the_same_name_are_refused(sweep: NoopSweep) -> None:
    sweep.run()
    (sweep.folder / "sweep.yaml").write_text(SWEEP.replace("trials: 4", "trials: 3"))
    with pytest.raises(SpecError, match=r"spec.trials: 4 → 3; another metadata.name keeps both"):
        sweep.run()


def test_every_value_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    text = SWEEP.replace('"0.04"', '"-0.04"')
    with pytest.raises(InvalidFile, match="learningRate"):
        NoopSweep(tmp_path, text).engine()
    text = SWEEP.replace("training: { steps: 18 }", "training: { stepz: 18 }")
    with pytest.raises(InvalidFile, match="stepz"):
        NoopSweep(tmp_path, text).engine()


def test_a_file_without_a_sweep_is_refused(tmp_path: Path) -> None:
    text = SWEEP.replace("TrainingSweep", "TrainingRun").replace("metadata: { name: ball }", "metadata: { name: b }")
    with pytest.raises((InvalidFile, SpecError)):
        NoopSweep(tmp_path, text).engine()
