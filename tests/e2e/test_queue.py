"""Six runs and one GPU on a real node: one after the other, in real pods. The GPU is a faked extended resource."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import node_images
from cluster.node_kubelet import NODE_NAME
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

GPU = "atoll.test/gpu"
RUNS = tuple(f"run-{number}" for number in range(1, 7))
DEADLINE_SECONDS = 1500
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


@pytest.fixture
def one_gpu(cluster: NodeCluster) -> Iterator[None]:
    """The node says that it has one, as a device plugin would have it say."""
    path = f"/status/capacity/{GPU.replace('/', '~1')}"
    _patch_node(cluster, {"op": "add", "path": path, "value": "1"})
    wait_until(lambda: _allocatable(cluster) == "1", what=f"{GPU} to be allocatable", timeout_seconds=60)
    yield
    _patch_node(cluster, {"op": "remove", "path": path})


def _patch_node(cluster: NodeCluster, *operations: dict[str, str]) -> None:
    cluster.kubectl(
        "patch", "node", NODE_NAME, "--subresource=status", "--type=json", "-p", json.dumps(list(operations))
    )


def _allocatable(cluster: NodeCluster) -> str:
    status = json.loads(cluster.kubectl("get", "node", NODE_NAME, "-o", "json"))["status"]
    return str(status["allocatable"].get(GPU, "0"))


@pytest.mark.usefixtures("one_gpu")
def test_six_runs_share_one_gpu(cluster: NodeCluster, installed: str, namespace_of_team: str, steps: StepLog) -> None:
    image = node_images.make_noop_stages({"train": {"steps": 10, "seconds": 0.5}})
    node_images.load(image)
    team = Team(cluster, installed, namespace_of_team)
    team.prepare()
    team.profile(
        "one-gpu",
        images=dict.fromkeys(("convert", "train", "trainGPU", "publish"), image),
        gpu={"resourceName": GPU},
        maxConcurrentRuns=1,
        resources=dict.fromkeys(("convert", "train", "export", "publish"), SMALL),
    )
    steps.add(f"the node offers one {GPU} (faked); the profile one-gpu lets one run work at a time")
    team.start(*(run_manifest(name) for name in RUNS))
    steps.add(f"kubectl apply -f six-runs.yaml   # {RUNS[0]} to {RUNS[-1]}")

    places: dict[str, list[int]] = {name: [] for name in RUNS}
    ends = watch(team, places, steps)
    steps.show(cluster.kubectl("get", "trun", "-o", "wide", "-n", team.namespace))
    assert {end["phase"] for end in ends.values()} == {"Succeeded"}
    # First come, first served; those of one second by name. A place that was held for a moment need not be written.
    assert [seen[:1] for seen in places.values()] == [[], *([number] for number in range(1, len(RUNS)))]
    assert all(seen == sorted(set(seen), reverse=True) for seen in places.values()), places
    spans = [(ends[name]["stages"][0]["startTime"], ends[name]["completionTime"]) for name in RUNS]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), spans
    assert {end["resolved"]["accelerator"] for end in ends.values()} == {"gpu"}
    trained = team.items("pods", "-l", "atoll.dev/stage=train")
    assert [limits(pod).get(GPU) for pod in trained] == ["1"] * len(RUNS)
    steps.add("one after the other, none failed, none on the CPU; each knew its place")


def run_manifest(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "profileRef": {"name": "one-gpu"},
            "datasets": [{"key": "datasets/local/field.tar"}],
            "training": {"initFrom": {"type": "random"}, "steps": 10, "batchSize": 8},
            "publish": {"model": "queued"},
        },
    }


def watch(team: Team, places: dict[str, list[int]], steps: StepLog) -> dict[str, dict[str, Any]]:
    """The last status of each run; meanwhile every place in the queue that it has told."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        statuses = {name: run.get("status", {}) for name, run in team.runs().items()}
        for name, status in statuses.items():
            ahead = (status.get("queue") or {}).get("ahead")
            if status.get("phase") == "Queued" and ahead is not None and places[name][-1:] != [ahead]:
                places[name].append(ahead)
                steps.add(f"{name}: {status['message']}")
        if all(status.get("phase") in ("Succeeded", "Failed") for status in statuses.values()):
            return statuses
        time.sleep(0.5)
    raise AssertionError(team.cluster.kubectl("describe", "trun,pods", "-n", team.namespace))


def limits(pod: dict[str, Any]) -> dict[str, str]:
    """Those of the container that trains; the one that exports comes after it in the same pod."""
    (training,) = (item for item in pod["spec"]["initContainers"] if item["name"] == "train")
    found: dict[str, str] = training["resources"]["limits"]
    return found
