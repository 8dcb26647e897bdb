"""Faults of pods, Jobs and objects under the real operator; ids as in docs/faults.md. The test plays the kubelet."""

from __future__ import annotations

import secrets
from typing import Any

import kubernetes.client
import pytest

from atoll_contract.stage import Stage, StageInput
from cluster.kubelet import Kubelet, StageEnd, run_on, succeed
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]


def start_run(team: Objects, name: str) -> dict[str, Any]:
    return team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}))


def convert_of(status: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(stage for stage in status["stages"] if stage["name"] == Stage.CONVERT)
    return found


def wait_for_reason(team: Objects, run: str, reason: str) -> dict[str, Any]:
    def told() -> dict[str, Any] | None:
        status = team.status(run)
        return status if status.get("reason") == reason else None

    return wait_until(told, what=f"{reason} in the status of {run}", timeout_seconds=120)


def test_P1_a_pod_over_its_memory_limit_is_not_tried_again(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["hungry", Stage.CONVERT] = lambda given, pod_uid: StageEnd(137, "", reason="OOMKilled")
    start_run(team, "hungry")
    status = team.wait_for_phase("hungry", "Failed", "Succeeded")
    assert (status["reason"], convert_of(status)["attempts"]) == ("OutOfMemory", 1)
    assert "memory limit" in status["message"]


def test_P2_exit_code_0_of_a_container_that_lost_a_child_to_memory_is_no_success(
    team: Objects, kubelet: Kubelet
) -> None:
    kubelet.scripts["childless", Stage.CONVERT] = lambda given, pod_uid: StageEnd(0, "", reason="OOMKilled")
    start_run(team, "childless")
    assert team.wait_for_phase("childless", "Failed", "Training")["reason"] == "OutOfMemory"


def test_P4_a_preempted_pod_is_replaced_and_costs_no_attempt(team: Objects, kubelet: Kubelet) -> None:
    pods: list[str] = []

    def preempt_the_first(given: StageInput, pod_uid: str) -> StageEnd | None:
        pods.append(pod_uid)
        if pod_uid == pods[0]:
            return StageEnd(143, "", reason="Error", disruption="preempted by a pod of higher priority")
        return succeed(given, pod_uid)

    kubelet.scripts["moved", Stage.CONVERT] = preempt_the_first
    start_run(team, "moved")
    convert = convert_of(team.wait_for_phase("moved", "Training", "Failed"))
    assert (convert["phase"], convert["attempts"]) == ("Succeeded", 1)
    assert len(set(pods)) == 2


def test_P4_a_pod_that_is_preempted_between_its_stages_is_replaced_and_costs_no_attempt(
    team: Objects, kubelet: Kubelet
) -> None:
    pods: dict[Stage, list[str]] = {Stage.TRAIN: [], Stage.EXPORT: []}

    def train(given: StageInput, pod_uid: str) -> StageEnd | None:
        pods[Stage.TRAIN].append(pod_uid)
        return succeed(given, pod_uid)

    def export(given: StageInput, pod_uid: str) -> StageEnd | None:
        assert given.handed_over == (Stage.TRAIN,)
        pods[Stage.EXPORT].append(pod_uid)
        if pod_uid == pods[Stage.EXPORT][0]:
            return StageEnd(143, "", reason="Error", disruption="preempted by a pod of higher priority")
        return succeed(given, pod_uid)

    kubelet.scripts["split", Stage.TRAIN] = train
    kubelet.scripts["split", Stage.EXPORT] = export
    start_run(team, "split")
    status = team.wait_for_phase("split", "Succeeded", "Failed")
    assert (status["phase"], [stage["attempts"] for stage in status["stages"]]) == ("Succeeded", [1] * 5)
    # The second pod had both stages again.
    assert [len(set(seen)) for seen in pods.values()] == [2, 2]
    jobs = [name for name in team.jobs() if name.startswith("split-")]
    assert len(jobs) == 3


def test_a_stage_that_fails_after_another_in_its_pod_is_tried_again_alone(team: Objects, kubelet: Kubelet) -> None:
    given_alone: list[StageInput] = []

    def export(given: StageInput, pod_uid: str) -> StageEnd | None:
        if given.attempt == 1:
            return StageEnd(39, "", reason="Error")
        given_alone.append(given)
        return succeed(given, pod_uid)

    kubelet.scripts["second", Stage.EXPORT] = export
    start_run(team, "second")
    status = team.wait_for_phase("second", "Succeeded", "Failed")
    assert (status["phase"], [stage["attempts"] for stage in status["stages"]]) == ("Succeeded", [1, 1, 2, 1, 1])
    assert given_alone[0].handed_over is None
    assert [item.name for item in given_alone[0].upstream["train"]] == ["weights", "history"]


def test_P7_the_schedulers_words_stand_in_the_status(team: Objects, kubelet: Kubelet) -> None:
    kubelet.unscheduled["placeless"] = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
    start_run(team, "placeless")
    assert "1 Insufficient nvidia.com/gpu" in wait_for_reason(team, "placeless", "Unschedulable")["message"]
    del kubelet.unscheduled["placeless"]
    team.wait_for_phase("placeless", "Training")


def test_P8_a_missing_secret_is_named_and_waited_for(team: Objects, kubelet: Kubelet) -> None:
    kubelet.waiting["secretless"] = {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}
    start_run(team, "secretless")
    assert 'secret "s3" not found' in wait_for_reason(team, "secretless", "SecretNotFound")["message"]
    del kubelet.waiting["secretless"]
    team.wait_for_phase("secretless", "Training")


def test_O15_an_exhausted_quota_is_told_and_waited_for(team: Objects) -> None:
    core = kubernetes.client.CoreV1Api(team.api)
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    core.create_namespaced_resource_quota(team.namespace, quota, _request_timeout=10)

    def in_force() -> bool:
        read = core.read_namespaced_resource_quota("none", team.namespace, _request_timeout=10)
        return bool(read.status and read.status.hard)

    wait_until(in_force, what="the quota to be counted")
    start_run(team, "crowded")
    assert "exceeded quota: none" in wait_for_reason(team, "crowded", "QuotaExceeded")["message"]
    core.delete_namespaced_resource_quota("none", team.namespace, _request_timeout=10)
    team.wait_for_phase("crowded", "Training")


def test_O18_a_job_deleted_by_hand_is_followed_by_another_attempt(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["robbed", Stage.CONVERT] = run_on
    start_run(team, "robbed")

    def recorded() -> dict[str, Any] | None:
        status = team.status("robbed")
        return convert_of(status).get("jobRef") if status else None

    job = wait_until(recorded, what="the Job in the status", timeout_seconds=60)
    kubernetes.client.BatchV1Api(team.api).delete_namespaced_job(
        job["name"], team.namespace, propagation_policy="Background", _request_timeout=10
    )
    del kubelet.scripts["robbed", Stage.CONVERT]
    convert = convert_of(team.wait_for_phase("robbed", "Training", "Failed"))
    assert (convert["phase"], convert["attempts"]) == ("Succeeded", 2)
    assert convert["lastFailure"]["reason"] == "JobDeletedExternally"


def test_C5_a_run_deleted_and_created_anew_at_once_has_jobs_of_its_own(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["twice", Stage.CONVERT] = run_on
    first = start_run(team, "twice")
    wait_until(lambda: [name for name in team.jobs() if name.startswith("twice-")], what="the first Job")
    team.delete("trainingruns", "twice")
    second = start_run(team, "twice")
    del kubelet.scripts["twice", Stage.CONVERT]
    team.wait_for_phase("twice", "Training")

    def owners() -> set[str]:
        jobs = (job for name, job in team.jobs().items() if name.startswith("twice-"))
        return {job["metadata"]["ownerReferences"][0]["uid"] for job in jobs}

    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    wait_until(lambda: owners() == {second["metadata"]["uid"]}, what="the first run's Jobs to go")


def test_C13_a_status_written_by_hand_is_made_anew_from_what_is(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["defaced", Stage.TRAIN] = run_on
    start_run(team, "defaced")
    team.wait_for_phase("defaced", "Training")
    team.patch_status("trainingruns", "defaced", {"status": None})
    wait_until(lambda: team.status("defaced").get("phase") == "Training", what="the status to be made anew")
    assert convert_of(team.status("defaced"))["attempts"] == 1


def test_C6_a_namespace_goes_with_its_runs_while_the_operator_is_dead(
    team: Objects, operator: OperatorProcess, api: kubernetes.client.ApiClient
) -> None:
    core = kubernetes.client.CoreV1Api(api)
    name = f"test-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}}, _request_timeout=10)
    other = Objects(api, name)
    other.create("objectstores", store_manifest())
    run = other.create("trainingruns", run_manifest("doomed"))
    other.create_job("doomed-convert", owner=run)
    operator.kill()
    core.delete_namespace(name, _request_timeout=10)

    def gone() -> bool:
        left = core.list_namespace(field_selector=f"metadata.name={name}", _request_timeout=10)
        return not left.items

    wait_until(gone, what="the namespace to go", timeout_seconds=60)
    operator.start()
