"""The commands that start, watch and change runs, against a real API server and operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from atoll_cli.main import main
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, failing, run_on
from cluster.objects import Objects, run_manifest
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]

Atoll = Callable[..., int]


@pytest.fixture
def atoll(control_plane: ControlPlane, team: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atoll:
    """The command line with an admin's kubeconfig, in a folder without a local store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> int:
        return main([*arguments, "--kubeconfig", str(control_plane.kubeconfig), "-n", team.namespace])

    return call


@pytest.fixture
def run_file(team: Objects, tmp_path: Path) -> Callable[..., str]:
    """Writes a TrainingRun into a file; its path."""

    def write(name: str, **spec: object) -> str:
        settings = {"profileRef": {"name": team.namespace}, "publish": {"model": name}} | spec
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(run_manifest(name, **settings)))
        return str(path)

    return write


def test_a_run_is_submitted_waited_for_and_shown(
    atoll: Atoll, run_file: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = run_file("cli-whole")
    assert atoll("submit", "-f", file) == 0
    assert "TrainingRun/cli-whole in namespace" in capsys.readouterr().out
    assert atoll("wait", "cli-whole", "--timeout", "2m") == 0
    assert "cli-whole: Succeeded" in capsys.readouterr().out
    assert atoll("status", "cli-whole") == 0
    shown = capsys.readouterr().out
    assert all(stage in shown for stage in Stage)
    assert "atoll pull cli-whole-v1" in shown
    assert atoll("status", "--json") == 0
    assert "cli-whole" in [item["metadata"]["name"] for item in json.loads(capsys.readouterr().out)]
    assert atoll("status") == 0
    assert "cli-whole-v1" in capsys.readouterr().out
    # The same file again changes nothing, another under its name is refused.
    assert atoll("submit", "-f", file) == 0
    assert "is there already" in capsys.readouterr().out
    assert atoll("submit", "-f", run_file("cli-whole", datasets=[{"key": "datasets/team/other.tar"}])) == 20
    assert "other settings" in capsys.readouterr().err
    assert atoll("cancel", "cli-whole") == 20
    assert "has ended already: Succeeded" in capsys.readouterr().err


def test_wait_ends_when_the_run_failed_and_retry_lets_it_go_on(
    atoll: Atoll, run_file: Callable[..., str], kubelet: Kubelet, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    kubelet.scripts["cli-gated", Stage.EXPORT] = failing(Reason.QUALITY_GATE_FAILED, "AP50 0.4 < 0.5", exit_code=45)
    assert atoll("submit", "-f", run_file("cli-gated"), "--watch") == 45
    told = capsys.readouterr()
    assert "Failed: QualityGateFailed: AP50 0.4 < 0.5" in told.out
    assert atoll("wait", "cli-gated") == 45
    assert atoll("suspend", "cli-gated") == 20
    assert "atoll retry cli-gated" in capsys.readouterr().err
    del kubelet.scripts["cli-gated", Stage.EXPORT]
    assert atoll("retry", "cli-gated") == 0
    assert "starts again from stage export" in capsys.readouterr().out
    # The operator may not have seen the annotation yet; the old end must not be taken for the new one.
    assert atoll("wait", "cli-gated", "--timeout", "2m") == 0
    stages = {stage["name"]: stage["attempts"] for stage in team.status("cli-gated")["stages"]}
    assert (stages["train"], stages["export"]) == (1, 2)
    assert atoll("retry", "cli-gated") == 20


def test_a_retry_may_name_an_earlier_stage(
    atoll: Atoll, run_file: Callable[..., str], kubelet: Kubelet, team: Objects
) -> None:
    kubelet.scripts["cli-back", Stage.EXPORT] = failing(Reason.QUALITY_GATE_FAILED, "too low", exit_code=45)
    assert atoll("submit", "-f", run_file("cli-back")) == 0
    assert atoll("wait", "cli-back", "--timeout", "2m") == 45
    del kubelet.scripts["cli-back", Stage.EXPORT]
    assert atoll("retry", "cli-back", "--stage", "train") == 0
    assert atoll("wait", "cli-back", "--timeout", "2m") == 0
    stages = {stage["name"]: stage["attempts"] for stage in team.status("cli-back")["stages"]}
    assert (stages["convert"], stages["train"]) == (1, 2)


def test_a_run_is_suspended_resumed_and_cancelled(
    atoll: Atoll, run_file: Callable[..., str], kubelet: Kubelet, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    kubelet.scripts["cli-paused", Stage.TRAIN] = run_on
    assert atoll("submit", "-f", run_file("cli-paused")) == 0
    team.wait_for_phase("cli-paused", "Training")
    assert atoll("wait", "cli-paused", "--timeout", "0s") == 124
    assert "it is Training" in capsys.readouterr().err
    assert atoll("suspend", "cli-paused") == 0
    team.wait_for_phase("cli-paused", "Suspended")
    assert atoll("wait", "cli-paused", "--timeout", "0s") == 124
    assert "atoll resume cli-paused" in capsys.readouterr().err
    assert atoll("resume", "cli-paused") == 0
    team.wait_for_phase("cli-paused", "Training")
    assert atoll("resume", "cli-paused") == 0
    assert "is not suspended" in capsys.readouterr().out
    assert atoll("cancel", "cli-paused") == 0
    assert atoll("wait", "cli-paused", "--timeout", "2m") == 3
    wait_until(lambda: team.status("cli-paused")["phase"] == "Cancelled", what="the end")


@pytest.mark.parametrize("command", ["status", "wait", "suspend", "resume", "retry", "cancel"])
def test_a_run_that_is_not_there_is_a_sentence(
    atoll: Atoll, command: str, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll(command, "cli-none") == 20
    assert f"there is no TrainingRun cli-none in namespace {team.namespace}" in capsys.readouterr().err


def test_an_invalid_file_reaches_no_cluster(
    atoll: Atoll, run_file: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("submit", "-f", run_file("cli-bad", publish={"model": "No"})) == 20
    assert "spec.publish.model" in capsys.readouterr().err
    assert atoll("status", "cli-bad") == 20
