"""Power cuts at each stage of a training on the robot's own board, while it serves. By hand: `make e2e-card`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster import node_images
from cluster.node import order
from cluster.node_orders import NodeOrder
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.robot_pod import RobotPod
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.card, pytest.mark.timeout(1800)]

STAGES = ("convert", "train", "export", "publish")
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
RUN = {
    "metadata": {"name": "cut"},
    "spec": {
        "profileRef": {"name": "noop"},
        "datasets": [{"key": "datasets/local/field.tar"}],
        "training": {"initFrom": {"type": "random"}, "steps": 60, "batchSize": 8},
        "publish": {"model": "cut"},
    },
}


@pytest.fixture
def team(cluster: NodeCluster, installed: str, namespace_of_team: str) -> Team:
    """A team whose stages take some seconds each, long enough to be cut."""
    image = node_images.make_noop_stages({stage: {"steps": 12, "seconds": 1} for stage in STAGES})
    node_images.load(image)
    made = Team(cluster, installed, namespace_of_team)
    made.prepare()
    images = dict.fromkeys(("convert", "train", "publish"), image)
    made.profile("noop", images=images, resources=dict.fromkeys(STAGES, SMALL))
    return made


def is_running(team: Team, stage: str) -> bool:
    """Whether the stage's container runs; export is one of the pod that trains."""
    for pod in team.items("pods", "-l", "atoll.dev/run=cut"):
        status: dict[str, Any] = pod["status"]
        for item in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            if item["name"] == stage and "running" in item["state"]:
                return True
    return False


def wait(probe: Callable[[], object], what: str) -> None:
    wait_until(probe, what=what, timeout_seconds=600, interval_seconds=0.5)


def test_P29_a_board_that_is_cut_at_each_stage_ends_neither_the_training_nor_the_vision(
    cluster: NodeCluster, team: Team, tmp_path: Path, steps: StepLog
) -> None:
    robot_pod = RobotPod(cluster, tmp_path, steps)
    with robot_pod.installed():
        uid = robot_pod.identity[0]
        team.start(RUN)
        for stage in STAGES:
            wait(partial(is_running, team, stage), f"the stage {stage}")
            seconds = robot_pod.boxes_after(lambda: order(NodeOrder.CUT_BOARD))
            steps.add(f"cut while {stage} runs: the robot sees boxes after {seconds:.1f} s")
        wait(lambda: team.runs()["cut"]["status"]["phase"] in ("Succeeded", "Failed"), "the end of the run")
        status = team.runs()["cut"]["status"]
        attempts = {item["name"]: item.get("attempts", 0) for item in status["stages"]}
        steps.add(f"{status['phase']}: {status['message']}; attempts {attempts}")
        assert status["phase"] == "Succeeded"
        assert all(attempts[stage] >= 2 for stage in ("convert", "train", "publish"))
        assert robot_pod.identity[0] == uid
