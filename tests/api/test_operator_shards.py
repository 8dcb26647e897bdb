"""A conversion by several pods, under the real operator and the real Job controller; the test plays the kubelet."""

from __future__ import annotations

import threading

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage, StageInput
from cluster.kubelet import Kubelet, Script, StageEnd, failing, run_on, succeed
from cluster.objects import Objects, run_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = pytest.mark.api

SHARDS = 3
INDEX = "batch.kubernetes.io/job-completion-index"


def start_run(team: Objects, name: str) -> None:
    spec = {"profileRef": {"name": team.namespace}, "conversion": {"shards": SHARDS}}
    team.create("trainingruns", run_manifest(name, **spec))


def by_index(team: Objects, scripts: dict[int, Script]) -> Script:
    """Each pod of the Job has the script of its index."""

    def script(given: StageInput, pod_uid: str) -> StageEnd | None:
        pod = next((item for item in team.pods().values() if item["metadata"]["uid"] == pod_uid), None)
        return None if pod is None else scripts[int(pod["metadata"]["labels"][INDEX])](given, pod_uid)

    return script


def pods_of(team: Objects, run: str) -> dict[int, str]:
    """The phase of each pod of the conversion, by index."""
    labelled = {name: pod for name, pod in team.pods().items() if name.startswith(f"{run}-convert-")}
    return {int(pod["metadata"]["labels"][INDEX]): pod["status"]["phase"] for pod in labelled.values()}


def convert_stage(team: Objects, run: str) -> dict[str, object]:
    stages = (team.get("trainingruns", run) or {})["status"]["stages"]
    return next(dict(stage) for stage in stages if stage["name"] == "convert")


def test_O41_index_0_decides_and_a_shard_that_dies_changes_nothing(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    may_end = threading.Event()
    scripts: dict[int, Script] = {
        0: lambda given, uid: succeed(given, uid) if may_end.is_set() else None,
        1: failing(Reason.OUT_OF_MEMORY, "killed", exit_code=27),
        2: run_on,
    }
    kubelet.scripts["shards", Stage.CONVERT] = by_index(team, scripts)
    start_run(team, "shards")
    wait_until(
        lambda: pods_of(team, "shards") == {0: "Running", 1: "Failed", 2: "Running"},
        what="three pods, one of them dead",
        timeout_seconds=60,
    )
    may_end.set()
    assert team.wait_for_phase("shards", "Succeeded", "Failed")["phase"] == "Succeeded"
    stage = convert_stage(team, "shards")
    assert (stage["reason"], stage["attempts"]) == ("Completed", 1)
    wait_until(lambda: pods_of(team, "shards").get(2) != "Running", what="the end of the last shard")


def test_what_index_0_says_of_the_data_ends_the_run(team: Objects, operator: OperatorProcess, kubelet: Kubelet) -> None:
    scripts: dict[int, Script] = {
        0: failing(Reason.DATASET_MALFORMED, "it is no archive", exit_code=10),
        # Shards whose index 0 has ended end well; what they say is heard by nobody.
        1: succeed,
        2: succeed,
    }
    kubelet.scripts["malformed", Stage.CONVERT] = by_index(team, scripts)
    start_run(team, "malformed")
    status = team.wait_for_phase("malformed", "Succeeded", "Failed")
    assert (status["phase"], status["reason"]) == ("Failed", "DatasetMalformed")
    assert convert_stage(team, "malformed")["attempts"] == 1
