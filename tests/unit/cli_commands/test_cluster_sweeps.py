"""`atoll status`, `atoll wait` and `atoll submit --watch` with sweeps of a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.cluster_access import ClusterAccess
from atoll_cli.cluster_runs import RunWatch
from atoll_cli.commands import status, submit
from atoll_cli.main import main
from atoll_operator.kube.objects import SWEEPS as SWEEP_KIND
from support.fake_cluster import FakeCluster, FakeServer
from support.scripted_api import ScriptedApi
from support.sweep_simulation import sweep_document

BASE = "/apis/atoll.dev/v1alpha1"
RUNS = f"{BASE}/namespaces/team/trainingruns"
SWEEPS = f"{BASE}/namespaces/team/trainingsweeps"
# Arguments of the command line.
Atoll = Callable[..., int]
AGE = "2027-01-09T19:00:00Z"


def sweep(phase: str = "Running", **figures: Any) -> dict[str, Any]:
    body = sweep_document()
    metadata = {**body["metadata"], "namespace": "team", "creationTimestamp": AGE}
    trials = {"display": "3/12", "total": 12, "running": 1, "completed": 2, "pruned": 1, "failed": 0}
    shown = {"phase": phase, "reason": "Running", "message": "at work: ball-t03", "trials": trials, **figures}
    return {**body, "metadata": metadata, "status": shown}


def run(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "team", "uid": name, "creationTimestamp": AGE},
        "spec": {},
        "status": {"phase": "Training"},
    }


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    monkeypatch.setattr(status, "RunWatch", partial(RunWatch, interval=0.01))
    monkeypatch.chdir(tmp_path)
    with ScriptedApi() as server:
        server.answers |= {
            RUNS: lambda _: (200, {"items": [run("note")]}),
            SWEEPS: lambda _: (200, {"items": [sweep()]}),
        }
        yield server


@pytest.fixture
def atoll(api: ScriptedApi, tmp_path: Path) -> Atoll:
    """Calls the command line; returns its exit code."""
    file = str(api.write_kubeconfig(tmp_path / "config"))
    return lambda *arguments: main([*arguments, "--kubeconfig", file])


def play(api: ScriptedApi, *answers: tuple[int, Any]) -> None:
    """The answers to the reads of the sweep, one after the other."""
    left = list(answers)
    api.answers[f"{SWEEPS}/ball"] = lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_status_lists_sweeps_below_runs(atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert atoll("status", "-n", "team") == 0
    runs, sweeps = capsys.readouterr().out.split("\n\n")
    assert "note" in runs
    assert sweeps.splitlines()[0].split() == ["SWEEP", "PHASE", "TRIALS", "BEST", "RUN", "RELEASE", "AGE"]
    assert "3/12" in sweeps


def test_status_of_all_namespaces_lists_their_sweeps(
    atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers[f"{BASE}/trainingruns"] = lambda _: (200, {"items": []})
    api.answers[f"{BASE}/trainingsweeps"] = lambda _: (200, {"items": [sweep()]})
    assert atoll("status", "-A") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["NAMESPACE", "SWEEP"]
    assert row.split()[:4] == ["team", "ball", "Running", "3/12"]


def test_the_document_of_status_holds_runs_and_sweeps(
    atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("status", "-n", "team", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["metadata"]["name"] for item in found] == ["note", "ball"]
    assert found[1]["kind"] == "TrainingSweep"
    assert atoll("status", "-n", "team", "-o", "name") == 0
    assert capsys.readouterr().out.split() == ["note", "ball"]


@pytest.mark.parametrize(
    ("phase", "reason", "code"),
    [("Succeeded", "Completed", 0), ("Cancelled", "Cancelled", 3), ("Failed", "InvalidSpec", 20)],
)
def test_wait_ends_with_the_sweep_and_its_exit_code(
    atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str], phase: str, reason: str, code: int
) -> None:
    play(api, (200, sweep()), (200, sweep()), (503, {"message": "restarts"}), (200, sweep(phase, reason=reason)))
    assert atoll("wait", "ball", "-n", "team") == code
    assert f"ball: {phase}: at work: ball-t03" in capsys.readouterr().out


def test_wait_gives_up_on_a_sweep_too(atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]) -> None:
    play(api, (200, sweep()))
    assert atoll("wait", "ball", "-n", "team", "--timeout", "0s") == 124
    assert "sweep ball has not ended within 0 s; ball: Running 3/12: at work" in capsys.readouterr().err


def test_status_watch_follows_a_sweep(atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]) -> None:
    play(api, (200, sweep()), (200, sweep()), (200, sweep("Succeeded", reason="Completed", message="published")))
    assert atoll("status", "ball", "-n", "team", "--watch") == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["ball: Running 3/12: at work: ball-t03", "ball: Succeeded: published"]
    assert "3/12 trials ended" in shown.out


def test_a_sweep_that_is_deleted_ends_the_wait(
    atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    play(api, (200, sweep()), (200, sweep()), (404, {"message": "not found"}))
    assert atoll("wait", "ball", "-n", "team") == 20
    assert "there is no TrainingSweep ball in namespace team" in capsys.readouterr().err


def test_a_name_that_nothing_has_is_that_of_no_run(
    atoll: Atoll, api: ScriptedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("wait", "gone", "-n", "team") == 20
    assert "there is no TrainingRun gone in namespace team" in capsys.readouterr().err


def test_submit_watches_a_sweep(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer()
    ended = {"status": sweep("Succeeded", reason="Completed", message="published")["status"]}

    def operator(kind: str, plural: str, body: dict[str, Any]) -> None:
        if (kind, plural) == ("ADDED", "trainingsweeps"):
            server.edit(SWEEP_KIND, "team", body["metadata"]["name"], ended)

    server.listeners.append(operator)
    monkeypatch.setattr(submit, "connect", lambda _: ClusterAccess(FakeCluster(server), "team"))
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({**sweep_document(), "metadata": {"name": "ball"}}), encoding="utf-8")
    assert main(["submit", "-f", str(file), "--watch"]) == 0
    assert "ball: Succeeded: published" in capsys.readouterr().err
