"""Runs in a queue of the real Kueue: held before they have a pod, admitted whole, preempted and admitted again.

The operator and Kueue are the real ones, with the rights of their charts; the test plays the kubelet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.stage import Stage, StageInput
from atoll_operator.api.status import parse_time
from cluster.kubelet import Kubelet, Script, StageEnd, result_of, run_on, succeed
from cluster.objects import GROUP, VERSION, Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from support.kueue_queue import INDEX_LABEL, QUEUE_LABEL, TeamQueue, job_of, pods_of, stage_of
from support.polling import wait_until
from support.worker_pods import follow

pytestmark = [pytest.mark.api, pytest.mark.kueue, pytest.mark.slow, pytest.mark.timeout(900)]

LABELS = {QUEUE_LABEL: "gpu"}


@pytest.fixture(scope="module", autouse=True)
def at_work(team: Objects, queue: TeamQueue, operator: OperatorProcess, kubelet: Kubelet) -> None:
    team.create("objectstores", store_manifest())


def start_run(team: Objects, name: str, **spec: Any) -> None:
    manifest = run_manifest(name, **spec, publish={"model": name})
    manifest["metadata"]["labels"] = LABELS
    team.create("trainingruns", manifest)


def ends_when(told: threading.Event, end: Script) -> Script:
    return lambda given, uid: end(given, uid) if told.is_set() else None


def by_index(team: Objects, first: Script, other: Script) -> Script:
    """Index 0 has one script, every other index has the other one."""

    def script(given: StageInput, pod_uid: str) -> StageEnd | None:
        pod = next((item for item in team.pods().values() if item["metadata"]["uid"] == pod_uid), None)
        if pod is None:
            return None
        return (first if pod["metadata"]["labels"][INDEX_LABEL] == "0" else other)(given, pod_uid)

    return script


def wait(probe: Callable[[], Any], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=180, interval_seconds=0.1)


def wait_for_words(team: Objects, run: str, stage: str, words: str) -> str:
    """The stage's message once it is queued and says this."""

    def told() -> str:
        found = stage_of(team, run, stage)
        return str(found["message"]) if found.get("reason") == "Queued" and words in found["message"] else ""

    return str(wait(told, f"{run} to be told {words!r} of {stage}"))


def test_a_training_of_two_workers_waits_suspended_and_starts_whole(
    team: Objects, queue: TeamQueue, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    may_end = threading.Event()
    kubelet.scripts["gang", Stage.TRAIN] = ends_when(may_end, by_index(team, succeed, follow))
    queue.occupy("other", cpus=1)
    start_run(team, "gang", training={"workers": 2, "steps": 20, "batchSize": 4, "initFrom": {"type": "random"}})
    message = wait_for_words(team, "gang", "train", "waits in queue gpu")
    assert "insufficient unused quota for cpu in flavor any-node, 1 more needed" in message
    before = team.status("gang")
    assert (before["reason"], before["message"]) == ("Queued", message)
    job = job_of(team, "gang", "train")
    assert job is not None
    assert (job["spec"]["suspend"], queue.admitted_pods(job), pods_of(team, "gang", "train")) == (True, 0, {})

    operator.kill()
    operator.start()
    held = parse_time(before["heldSince"])
    wait(lambda: datetime.now(UTC) - held > timedelta(seconds=8), "some time of waiting")
    queue.leave("other")
    wait(lambda: pods_of(team, "gang", "train") == {0: "Running", 1: "Running"}, "both workers")
    assert queue.admitted_pods(job) == 2
    wait(lambda: "heldSince" not in team.status("gang"), "the end of the hold")
    moved = parse_time(team.status("gang")["activeSince"]) - parse_time(before["activeSince"])
    assert moved >= timedelta(seconds=7)
    may_end.set()
    status = team.wait_for_phase("gang", "Succeeded", "Failed")
    assert (status["phase"], status["summary"]["ap50"]) == ("Succeeded", "0.88")
    assert stage_of(team, "gang", "train")["attempts"] == 1


def test_a_training_that_is_preempted_loses_its_pods_and_no_attempt(
    team: Objects, queue: TeamQueue, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    may_end = threading.Event()
    kubelet.scripts["gives-way", Stage.TRAIN] = ends_when(may_end, by_index(team, succeed, follow))
    start_run(
        team,
        "gives-way",
        training={"workers": 2, "steps": 20, "batchSize": 4, "initFrom": {"type": "random"}},
        runPolicy={"backoffLimit": 0},
    )
    wait(lambda: pods_of(team, "gives-way", "train") == {0: "Running", 1: "Running"}, "both workers")
    job = job_of(team, "gives-way", "train")
    assert job is not None
    queue.occupy("more-urgent", cpus=1, priority="urgent")
    message = wait_for_words(team, "gives-way", "train", "was taken out of queue gpu (Preempted)")
    assert "Preempted to accommodate a workload" in message
    # It gives up both places where one is wanted: half a gang would train nothing.
    wait(lambda: not pods_of(team, "gives-way", "train"), "both pods to go")
    operator.kill()
    queue.leave("more-urgent")
    wait(lambda: len(pods_of(team, "gives-way", "train")) == 2, "both pods to be back")
    operator.start()
    may_end.set()
    status = team.wait_for_phase("gives-way", "Succeeded", "Failed")
    train = stage_of(team, "gives-way", "train")
    assert (status["phase"], train["attempts"], train.get("failures", 0)) == ("Succeeded", 1, 0)
    assert train["jobRef"]["uid"] == job["metadata"]["uid"]


def test_the_shards_of_a_conversion_are_admitted_together(team: Objects, queue: TeamQueue, kubelet: Kubelet) -> None:
    may_end = threading.Event()
    kubelet.scripts["shards", Stage.CONVERT] = ends_when(may_end, by_index(team, succeed, run_on))
    queue.occupy("other-shard", cpus=1)
    start_run(team, "shards", conversion={"shards": 2})
    wait_for_words(team, "shards", "convert", "1 more needed")
    assert pods_of(team, "shards", "convert") == {}
    queue.leave("other-shard")
    wait(lambda: pods_of(team, "shards", "convert") == {0: "Running", 1: "Running"}, "both shards")
    may_end.set()
    status = team.wait_for_phase("shards", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status["message"]


def test_the_trials_of_a_sweep_wait_in_its_queue(team: Objects, queue: TeamQueue, kubelet: Kubelet) -> None:
    def trained(given: StageInput, pod_uid: str) -> StageEnd:
        result = replace(result_of(given, pod_uid), summary={"bestStep": 20, "ap50": 0.9})
        return StageEnd(0, result.termination_message().decode())

    may_end = threading.Event()
    names = ("look-t00", "look-t01")
    for name in names:
        kubelet.scripts[name, Stage.TRAIN] = ends_when(may_end, trained)
    # One place is left, which one trial takes.
    queue.occupy("other-trial", cpus=1)
    template = run_manifest("look", publish={"model": "look"})["spec"]
    rates = [{"name": "learningRate", "values": ["0.001", "0.002"]}]
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainingSweep",
        "metadata": {"name": "look", "labels": LABELS},
        "spec": {"template": {"spec": template}, "parameters": rates, "trials": 2, "parallelism": 2},
    }
    team.create("trainingsweeps", manifest)

    def held() -> list[str]:
        return [name for name in names if "waits in queue gpu" in team.status(name).get("message", "")]

    def at_work() -> list[str]:
        return [name for name in names if stage_of(team, name, "train").get("reason") == "Running"]

    wait(lambda: len(held()) == len(at_work()) == 1, "one trial at work and one in the queue")
    queue.leave("other-trial")
    wait(lambda: len(at_work()) == 2, "both trials at work")
    may_end.set()

    def ended() -> dict[str, Any] | None:
        status = (team.get("trainingsweeps", "look") or {}).get("status") or {}
        return status if status.get("phase") in ("Succeeded", "Failed") else None

    status = wait(ended, "the end of the sweep")
    assert (status["phase"], status["release"]) == ("Succeeded", "look-v1")
