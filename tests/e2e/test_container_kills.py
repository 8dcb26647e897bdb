"""Every container of a run's three pods is killed once, and a pod is evicted between init container and container.

By hand: `make e2e-full`. The stages do no work (`support.noop_stages`), on the real runner and a real bucket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from cluster import node_images
from cluster.node_containerd import images as images_of_node
from cluster.node_containerd import kill_container, remove_image
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

STAGES = ("convert", "train", "export", "compile", "publish")
# Long enough for the test to see each stage at work.
PLAN = {stage: {"steps": 15, "seconds": 1} for stage in STAGES}
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
# No node has it: its container waits for it after the init container has ended.
ABSENT = "localhost/atoll-test/absent:1"


@pytest.fixture
def team(cluster: NodeCluster, installed: str, namespace_of_team: str) -> Team:
    """A team with two profiles: the image of publish is on the node, or it is not."""
    image = node_images.make_noop_stages(PLAN)
    node_images.load(image)
    made = Team(cluster, installed, namespace_of_team)
    made.prepare()
    images = dict.fromkeys(("convert", "train", "compile", "publish"), image)
    resources = dict.fromkeys(STAGES, SMALL)
    made.profile("noop", images=images, resources=resources)
    made.profile("absent", images=images | {"publish": ABSENT}, resources=resources)
    return made


@pytest.fixture
def without_image(cluster: NodeCluster) -> Iterator[None]:
    """The node does not have the image `ABSENT`, and keeps it no longer than the test."""
    _remove()
    yield
    _remove()


def _remove() -> None:
    if ABSENT in images_of_node():
        remove_image(ABSENT)


def run_of(name: str, profile: str) -> dict[str, Any]:
    spec = {
        "profileRef": {"name": profile},
        "datasets": [{"key": "datasets/local/field.tar"}],
        "training": {"initFrom": {"type": "random"}, "steps": 60, "batchSize": 8},
        "compile": [{"target": "edgetpu", "policy": "Required"}],
        "publish": {"model": name},
    }
    return {"metadata": {"name": name}, "spec": spec}


def pods(team: Team, run: str) -> list[dict[str, Any]]:
    return team.items("pods", "-l", f"atoll.dev/run={run}")


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def running(team: Team, run: str, stage: str) -> str:
    """The id of the stage's container that runs; empty while none does."""
    found = [item for pod in pods(team, run) for item in containers(pod) if item["name"] == stage]
    ids = [str(item["containerID"]) for item in found if "running" in item["state"]]
    return ids[0].removeprefix("containerd://") if ids else ""


def attempts(team: Team, run: str) -> dict[str, int]:
    stages = team.runs()[run].get("status", {}).get("stages", [])
    return {item["name"]: item["attempts"] for item in stages}


def has_second_attempt(team: Team, run: str, stage: str) -> bool:
    return attempts(team, run).get(stage) == 2


def ended(team: Team, run: str) -> dict[str, Any]:
    wait(lambda: team.runs()[run]["status"]["phase"] in ("Succeeded", "Failed", "Cancelled"), "the end of the run")
    status: dict[str, Any] = team.runs()[run]["status"]
    return status


def releases(team: Team, model: str) -> list[tuple[int, bool]]:
    """Version and whether it is published."""
    found = [item for item in team.items("modelreleases") if item["spec"]["model"] == model]
    return [(item["spec"]["version"], item.get("status", {}).get("published", False)) for item in found]


def test_a_kill_of_every_container_costs_that_stage_one_attempt(team: Team, steps: StepLog) -> None:
    team.start(run_of("killed", "noop"))
    for stage in STAGES:
        kill_container(wait(partial(running, team, "killed", stage), f"the container of {stage}"))
        steps.add(f"the container of {stage} is killed")
        wait(partial(has_second_attempt, team, "killed", stage), f"the second attempt of {stage}")
    status = ended(team, "killed")
    assert status["phase"] == "Succeeded", status["message"]
    for item in status["stages"]:
        steps.add(f"{item['name']}: {item['attempts']} attempts; {item['lastFailure']['message']}")
        assert "exit code 137" in item["lastFailure"]["message"]
    assert attempts(team, "killed") == dict.fromkeys(STAGES, 2)
    assert releases(team, "killed") == [(1, True)]


def test_an_eviction_between_init_container_and_container_costs_no_attempt(
    team: Team, cluster: NodeCluster, without_image: None, steps: StepLog
) -> None:
    team.start(run_of("evicted", "absent"))

    def between() -> list[dict[str, Any]]:
        """The pods whose compile has ended and whose publish has not begun."""
        states = [(pod, {item["name"]: item["state"] for item in containers(pod)}) for pod in pods(team, "evicted")]
        return [
            pod
            for pod, state in states
            if state.get("compile", {}).get("terminated", {}).get("exitCode") == 0
            and "waiting" in state["publish"]
            and "deletionTimestamp" not in pod["metadata"]
        ]

    first = wait(between, "the end of compile")[0]["metadata"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": first["name"], "namespace": team.namespace},
    }
    path = f"/api/v1/namespaces/{team.namespace}/pods/{first['name']}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    steps.add(f"{first['name']} is evicted between compile and publish")

    def successors() -> list[dict[str, Any]]:
        return [pod for pod in between() if pod["metadata"]["uid"] != first["uid"]]

    second = wait(successors, "another pod with compile ended")[0]["metadata"]
    steps.add(f"{second['name']} waits for the image of publish")
    node_images.load_as(node_images.NOOP_IMAGE, ABSENT)
    status = ended(team, "evicted")
    steps.add(f"{status['phase']}: {status['message']}; attempts {attempts(team, 'evicted')}")
    assert status["phase"] == "Succeeded", status["message"]
    assert attempts(team, "evicted") == dict.fromkeys(STAGES, 1)
    assert releases(team, "evicted") == [(1, True)]


def wait(probe: Callable[[], Any], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=300, interval_seconds=0.3)
