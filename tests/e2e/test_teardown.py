"""Runs and their namespace deleted while nobody could help: the operator is dead and the bucket is away. By hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from atoll_contract.stage import DEFAULT_GRACE_SECONDS
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

# Beside the time that the pods are given to save what they have.
BOUND_SECONDS = 30 + int(DEFAULT_GRACE_SECONDS)
DEADLINE_SECONDS = 1200
RUNS = ("first", "second")
LIGHT = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}}


def test_runs_and_their_namespace_go_without_operator_and_bucket(
    cluster: NodeCluster, installed: str, namespace_of_team: str, steps: StepLog
) -> None:
    team = Team(cluster, installed, namespace_of_team)
    team.prepare()
    stages = dict.fromkeys(("convert", "train", "export", "publish"), LIGHT)
    team.profile("two-at-once", maxConcurrentRuns=2, resources=stages)
    team.start(*(run_manifest(name) for name in RUNS))
    wait_until(lambda: all(trained_steps(team)), what="both runs to train", timeout_seconds=DEADLINE_SECONDS)
    steps.add("two runs train")
    steps.show(cluster.kubectl("get", "trun,jobs,pods", "-n", team.namespace))

    cluster.kubectl("scale", "deployment/atoll", "statefulset/atoll-store", "--replicas=0", "-n", installed)
    gone = ["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component in (operator, store)"]
    cluster.kubectl(*gone, "-n", installed, "--timeout=55s")
    steps.add("the operator is dead and the bucket is away; both trainings go on")
    assert len(training(team)) == len(RUNS)

    seconds = timed(
        lambda: cluster.kubectl("delete", "trun", RUNS[0], "-n", team.namespace), lambda: left(team, RUNS[0])
    )
    steps.add(f"kubectl delete trun {RUNS[0]}: its Jobs and pods are gone after {seconds:.1f} s")
    assert seconds <= BOUND_SECONDS
    assert len(training(team)) == 1

    def delete_namespace() -> None:
        cluster.kubectl("delete", "namespace", team.namespace, "--wait=false")

    seconds = timed(delete_namespace, lambda: cluster.names("namespace", f"metadata.name={team.namespace}"))
    steps.add(f"kubectl delete namespace {team.namespace}: gone after {seconds:.1f} s, with the run that trained in it")
    assert seconds <= BOUND_SECONDS
    assert team.namespace not in cluster.kubectl("get", "trun,mrel,jobs,pods", "-A")


def run_manifest(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "profileRef": {"name": "two-at-once"},
            "datasets": [{"key": "datasets/local/field.tar"}],
            "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
            "training": {
                "initFrom": {"type": "random"}, "steps": 5000, "batchSize": 4, "accelerator": "cpu",
            },
            "publish": {"model": name},
        },
    }  # fmt: skip


def trained_steps(team: Team) -> list[int]:
    """How far each training is."""
    runs = team.runs().values()
    return [run.get("status", {}).get("progress", {}).get("step", 0) for run in runs]


def training(team: Team) -> list[dict[str, Any]]:
    """The pods whose training runs. The container that exports follows in the same pod, which is Pending till then."""
    return [
        pod
        for pod in team.items("pods", "-l", "atoll.dev/stage=train")
        for container in pod["status"].get("initContainerStatuses", [])
        if container["name"] == "train" and "running" in container["state"]
    ]


def left(team: Team, run: str) -> list[dict[str, Any]]:
    """What is still there of a run."""
    runs = [item for item in team.items("trun") if item["metadata"]["name"] == run]
    return runs + team.items("jobs,pods", "-l", f"atoll.dev/run={run}")


def timed(act: Callable[[], object], remains: Callable[[], object]) -> float:
    """Seconds from an act until nothing remains."""
    began = time.monotonic()
    act()
    wait_until(lambda: not remains(), what="everything to go", timeout_seconds=4 * BOUND_SECONDS, interval_seconds=0.3)
    return time.monotonic() - began
