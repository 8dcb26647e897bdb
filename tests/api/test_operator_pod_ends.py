"""Ends of pods under the real operator, by the words that a kubelet or a stage leaves; ids as in docs/faults.md."""

from __future__ import annotations

import dataclasses
from typing import Any

import kubernetes.client
import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage, StageInput
from cluster.kubelet import Kubelet, StageEnd, failing, run_on, succeed
from cluster.objects import Objects, run_manifest
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]

PRESSURE = "The node was low on resource: memory."
FULL = 'Usage of EmptyDir volume "work" exceeds the limit "20Gi".'


def end_of(team: Objects, name: str, **spec: Any) -> dict[str, Any]:
    """The status of a new run once it is over."""
    manifest = run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}, **spec)
    team.create("trainingruns", manifest)
    return team.wait_for_phase(name, "Succeeded", "Failed")


def stage_of(status: dict[str, Any], name: Stage) -> dict[str, Any]:
    found: dict[str, Any] = next(stage for stage in status["stages"] if stage["name"] == name)
    return found


def releases_of(team: Objects, model: str) -> list[str]:
    found = team.list_all("modelreleases")
    return [item["metadata"]["name"] for item in found if item["spec"]["model"] == model]


def test_P3_a_pod_evicted_for_its_nodes_sake_is_replaced_and_costs_no_attempt(team: Objects, kubelet: Kubelet) -> None:
    pods: list[str] = []

    def evict_the_first(given: StageInput, pod_uid: str) -> StageEnd | None:
        pods.append(pod_uid)
        if pod_uid == pods[0]:
            return StageEnd(137, "", reason="Error", disruption=PRESSURE, eviction=PRESSURE)
        return succeed(given, pod_uid)

    kubelet.scripts["pressed", Stage.CONVERT] = evict_the_first
    status = end_of(team, "pressed")
    assert status["phase"] == "Succeeded"
    assert stage_of(status, Stage.CONVERT)["attempts"] == 1
    assert len(set(pods)) == 2


@pytest.mark.parametrize("first", [Stage.TRAIN, Stage.COMPILE])
@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "failed"])
def test_P3_a_pod_evicted_between_its_containers_leaves_what_is_done_done(
    team: Objects, kubelet: Kubelet, first: Stage, replaced: bool
) -> None:
    name = f"between-{first}-{'replaced' if replaced else 'failed'}"
    pods: list[str] = []

    def evict_the_first(given: StageInput, pod_uid: str) -> StageEnd | None:
        pods.append(pod_uid)
        done = succeed(given, pod_uid)
        # A disrupted pod is replaced within its Job. Otherwise the Job has failed.
        disruption = PRESSURE if replaced else ""
        return dataclasses.replace(done, disruption=disruption, eviction=PRESSURE) if pod_uid == pods[0] else done

    kubelet.scripts[name, first] = evict_the_first
    status = end_of(team, name)
    second = list(Stage)[list(Stage).index(first) + 1]
    attempts = [2 if stage is second and not replaced else 1 for stage in Stage]
    assert (status["phase"], [stage["attempts"] for stage in status["stages"]]) == ("Succeeded", attempts)
    # Only a new pod of the same Job begins with the stage that is done, and finds its result.
    assert len(set(pods)) == (2 if replaced else 1)
    assert releases_of(team, name) == [f"{name}-v1"]


def killed_at_first(given: StageInput, pod_uid: str) -> StageEnd | None:
    """The container of the first attempt gets signal 9; the next one does its work."""
    return StageEnd(137, "", reason="Error") if given.attempt == 1 else succeed(given, pod_uid)


def test_a_container_that_is_killed_costs_an_attempt_of_its_stage_and_of_no_other(
    team: Objects, kubelet: Kubelet
) -> None:
    for stage in Stage:
        name = f"killed-{stage}"
        kubelet.scripts[name, stage] = killed_at_first
        team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}))
    for stage in Stage:
        name = f"killed-{stage}"
        status = team.wait_for_phase(name, "Succeeded", "Failed")
        attempts = [2 if item is stage else 1 for item in Stage]
        assert (status["phase"], [item["attempts"] for item in status["stages"]]) == ("Succeeded", attempts), name
        assert "signal 9" in stage_of(status, stage)["lastFailure"]["message"]
        assert releases_of(team, name) == [f"{name}-v1"]


def test_P3_a_pod_evicted_for_its_own_disk_ends_the_run(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["bulky", Stage.CONVERT] = lambda given, pod_uid: StageEnd(137, "", reason="Error", eviction=FULL)
    status = end_of(team, "bulky")
    assert (status["reason"], stage_of(status, Stage.CONVERT)["attempts"]) == ("EphemeralStorageExceeded", 1)
    assert FULL in status["message"]
    assert "scratch.sizeLimit" in status["message"]


def test_P9_a_full_disk_is_not_tried_again(team: Objects, kubelet: Kubelet) -> None:
    full = failing(Reason.EPHEMERAL_STORAGE_EXCEEDED, "no space is left in the scratch folder", exit_code=25)
    kubelet.scripts["stuffed", Stage.CONVERT] = full
    status = end_of(team, "stuffed")
    assert (status["reason"], stage_of(status, Stage.CONVERT)["attempts"]) == ("EphemeralStorageExceeded", 1)
    assert "no space is left" in status["message"]


def test_P13_a_training_that_diverges_ends_the_run_and_publishes_nothing(team: Objects, kubelet: Kubelet) -> None:
    words = "the loss is nan at step 312; lower learningRate (0.8)"
    kubelet.scripts["wild", Stage.TRAIN] = failing(Reason.TRAINING_DIVERGED, words, exit_code=40)
    status = end_of(team, "wild")
    assert (status["reason"], status["message"]) == ("TrainingDiverged", words)
    assert stage_of(status, Stage.TRAIN)["attempts"] == 1
    assert not [item for item in team.list_all("modelreleases") if item["spec"]["model"] == "wild"]


@pytest.mark.parametrize(("policy", "phase"), [("BestEffort", "Succeeded"), ("Required", "Failed")])
def test_P14_a_model_that_the_compiler_hardly_maps_is_weighed_by_the_policy(
    team: Objects, kubelet: Kubelet, policy: str, phase: str
) -> None:
    name = f"unmapped-{policy.lower()}"
    words = "71/112 operations on the Edge TPU (63 %), required 95 %; first unmapped: EXP"
    kubelet.scripts[name, Stage.COMPILE] = failing(Reason.OPS_NOT_MAPPED, words, exit_code=43)
    status = end_of(team, name, compile=[{"target": "edgetpu", "policy": policy}])
    compile_stage = stage_of(status, Stage.COMPILE)
    assert (status["phase"], compile_stage["reason"]) == (phase, "OpsNotMapped")
    assert words in compile_stage["message"]
    assert not status["compile"][0]["compiled"]


def test_P5_a_node_without_power_is_named_and_waited_for(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["unplugged", Stage.CONVERT] = run_on
    core = kubernetes.client.CoreV1Api(team.api)
    node = f"{team.namespace}-pc"
    core.create_node({"metadata": {"name": node}}, _request_timeout=10)
    team.create("trainingruns", run_manifest("unplugged", profileRef={"name": team.namespace}))

    def running() -> str | None:
        pods = team.pods().items()
        return next((name for name, pod in pods if "unplugged" in name and pod["status"]["phase"] == "Running"), None)

    pod = wait_until(running, what="its pod to run", timeout_seconds=60)
    binding = {"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
    core.create_namespaced_pod_binding(pod, team.namespace, binding, _preload_content=False, _request_timeout=10)
    # What the node's controller writes when a kubelet is silent.
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting"}
    core.patch_node_status(node, {"status": {"conditions": [silent]}}, _request_timeout=10)
    unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    core.patch_namespaced_pod_status(pod, team.namespace, unready, _request_timeout=10)

    def lost() -> bool:
        return team.status("unplugged").get("reason") == "NodeLost"

    wait_until(lost, what="the lost node in the status", timeout_seconds=60)
    assert f"node {node}: Kubelet stopped posting" in team.status("unplugged")["message"]
    assert "deletionTimestamp" not in team.pods()[pod]["metadata"]
    core.patch_node_status(node, {"status": {"conditions": [silent | {"status": "True"}]}}, _request_timeout=10)
    del kubelet.scripts["unplugged", Stage.CONVERT]
    assert team.wait_for_phase("unplugged", "Training", "Succeeded", "Failed")["stages"][0]["attempts"] == 1
    core.delete_node(node, _request_timeout=10)
