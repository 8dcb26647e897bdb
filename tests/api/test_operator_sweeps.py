"""A sweep under the real operator, with the chart's rights, on a real API server; the test plays the kubelet."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.stage import Stage, StageInput
from cluster.kubelet import Kubelet, Script, StageEnd, result_of, run_on
from cluster.objects import GROUP, VERSION, Objects, run_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet"), pytest.mark.timeout(300)]

RATES = ("0.001", "0.002", "0.004")


def start_sweep(team: Objects, name: str, **spec: Any) -> None:
    template = run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name})["spec"]
    settings: dict[str, Any] = {
        "template": {"spec": template},
        "parameters": [{"name": "learningRate", "values": list(RATES)}],
        "trials": len(RATES),
    }
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainingSweep",
        "metadata": {"name": name},
        "spec": settings | spec,
    }
    team.create("trainingsweeps", manifest)


def status_of(team: Objects, plural: str, name: str) -> dict[str, Any]:
    return (team.get(plural, name) or {}).get("status") or {}


def wait_for_sweep(team: Objects, name: str, *phases: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        status = status_of(team, "trainingsweeps", name)
        return status if status.get("phase") in phases else None

    return wait_until(found, what=f"sweep {name} to be {' or '.join(phases)}", timeout_seconds=200)


def trained_to(score: float) -> Script:
    """A training that ends with this AP50 on the validation split."""

    def script(given: StageInput, pod_uid: str) -> StageEnd:
        result = replace(result_of(given, pod_uid), summary={"bestStep": 20, "ap50": score})
        return StageEnd(0, result.termination_message().decode())

    return script


def runs_of(team: Objects, sweep: str) -> dict[str, dict[str, Any]]:
    found = team.list_all("trainingruns")
    return {
        run["metadata"]["name"]: run
        for run in found
        if (run["metadata"].get("labels") or {}).get("atoll.dev/sweep") == sweep
    }


def _has_runs(team: Objects, count: int) -> bool:
    return len(runs_of(team, "ball")) >= count


def test_O59_an_operator_killed_again_and_again_makes_the_same_runs_and_one_release(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    for number, score in enumerate((0.5, 0.9, 0.7)):
        kubelet.scripts[f"ball-t{number:02d}", Stage.TRAIN] = trained_to(score)
    start_sweep(team, "ball")
    for count in (1, 2, 3):
        wait_until(partial(_has_runs, team, count), what=f"run {count}", timeout_seconds=90)
        operator.kill()
        operator.start()
    status = wait_for_sweep(team, "ball", "Succeeded", "Failed")
    assert (status["phase"], status["best"]["run"], status["release"]) == ("Succeeded", "ball-t01", "ball-v1")
    assert status["trials"]["display"] == "3/3"
    runs = runs_of(team, "ball")
    assert {name: run["status"]["phase"] for name, run in runs.items()} == {
        "ball-t00": "Cancelled",
        "ball-t01": "Succeeded",
        "ball-t02": "Cancelled",
    }
    assert {run["spec"]["training"]["learningRate"] for run in runs.values()} == set(RATES)
    releases = [item["metadata"]["name"] for item in team.list_all("modelreleases")]
    assert releases == ["ball-v1"]


def test_O59_trials_wait_suspended_and_the_best_go_on_although_the_operator_is_killed_again_and_again(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    scores = {"wait-t00": 0.2, "wait-t01": 0.9, "wait-t02": 0.5}
    kubelet.scripts |= {(name, Stage.TRAIN): run_on for name in scores}
    training = {"initFrom": {"type": "random"}, "steps": 900, "batchSize": 4, "evalEverySteps": 100}
    template = run_manifest("wait", profileRef={"name": team.namespace}, publish={"model": "wait"}, training=training)
    start_sweep(team, "wait", template={"spec": template["spec"]}, algorithm="grid")
    for name, score in scores.items():
        team.wait_for_phase(name, "Training")
        measured = {"status": {"learningCurve": [{"step": 300, "ap50": f"{score}"}]}}
        team.patch_status("trainingruns", name, measured)
        if name != "wait-t02":
            assert "waits at step 300 of 900" in team.wait_for_phase(name, "Suspended")["message"]
        operator.kill()
        operator.start()
    team.wait_for_phase("wait-t00", "Cancelled")
    for name in ("wait-t02", "wait-t01"):
        team.wait_for_phase(name, "Training", "Suspended")
        kubelet.scripts[name, Stage.TRAIN] = trained_to(scores[name])
    operator.kill()
    operator.start()
    status = wait_for_sweep(team, "wait", "Succeeded", "Failed")
    assert (status["phase"], status["best"]["run"], status["release"]) == ("Succeeded", "wait-t01", "wait-v1")
    assert {name: status_of(team, "trainingruns", name)["phase"] for name in scores} == {
        "wait-t00": "Cancelled",
        "wait-t01": "Succeeded",
        "wait-t02": "Cancelled",
    }
    annotations = (team.get("trainingruns", "wait-t01") or {})["metadata"]["annotations"]
    assert "atoll.dev/suspend-reason" not in annotations


def test_a_cancelled_sweep_ends_its_runs(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["idle-t00", Stage.TRAIN] = run_on
    start_sweep(team, "idle")
    wait_until(lambda: runs_of(team, "idle"), what="a run", timeout_seconds=60)
    team.patch("trainingsweeps", "idle", {"spec": {"cancel": True}})
    assert wait_for_sweep(team, "idle", "Cancelled", "Failed")["phase"] == "Cancelled"
    assert [run["status"]["phase"] for run in runs_of(team, "idle").values()] == ["Cancelled"]


def test_a_sweep_whose_runs_the_api_server_refuses_says_why(team: Objects) -> None:
    start_sweep(team, "wrong", parameters=[{"name": "steps", "values": ["0"]}])
    status = wait_for_sweep(team, "wrong", "Succeeded", "Failed")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidSpec")
    assert "spec.training.steps" in status["message"]
    assert runs_of(team, "wrong") == {}
