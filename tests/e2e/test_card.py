"""A robot's vision on a node with a small disk, whose kubelet minds it as k3s's does. By hand: `make e2e-card`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster import node_card, node_images
from cluster.node import order
from cluster.node_containerd import images, kill_container, remove_image
from cluster.node_images import STRAY_IMAGE
from cluster.node_kubelet import NODE_NAME
from cluster.node_orders import NodeOrder
from support.k3s_machine import K3sMachine
from support.node_cluster import NodeCluster
from support.polling import wait_until
from support.robot_pod import RobotPod
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.card, pytest.mark.timeout(1800)]

# The kubelet looks for images to remove each five minutes.
PATIENCE_SECONDS = 420
PRESSURE_SECONDS = 60


@pytest.fixture
def machine(cluster: NodeCluster, tmp_path: Path, steps: StepLog) -> Iterator[K3sMachine]:
    """A k3s machine with the edge image, loaded as the pages say, and an image that was only imported."""
    node_images.build(["edge"])
    made = K3sMachine(cluster, tmp_path / "machine")
    made.provide_tools()
    made.stand_in()
    made.load("edge")
    node_images.load(node_images.ensure_stray())
    steps.add("make load TARGET=k3s IMAGES=edge; another image imported alone, without that mark")
    yield made
    node_card.empty()


@pytest.fixture
def robot_pod(cluster: NodeCluster, machine: K3sMachine, tmp_path: Path, steps: StepLog) -> Iterator[RobotPod]:
    folder = tmp_path / "robot"
    folder.mkdir()
    pod = RobotPod(cluster, folder, steps)
    with pod.installed():
        yield pod


@pytest.fixture
def ordinary_pod(cluster: NodeCluster) -> Iterator[str]:
    """A pod of no priority, of the image that is only imported."""
    container = {"name": "main", "image": STRAY_IMAGE, "command": ["sleep", "infinity"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ordinary"}, "spec": {"containers": [container]}}
    cluster.kubectl("apply", "-n", "default", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/ordinary", "-n", "default", "--timeout=50s")
    yield "ordinary"
    cluster.kubectl("delete", "pod", "ordinary", "-n", "default", "--now", "--ignore-not-found")


def wait(probe: Callable[[], object], what: str) -> None:
    wait_until(probe, what=what, timeout_seconds=PATIENCE_SECONDS, interval_seconds=0.5)


def under_pressure(cluster: NodeCluster) -> bool:
    conditions = json.loads(cluster.kubectl("get", "node", NODE_NAME, "-o", "json"))["status"]["conditions"]
    return any(item["type"] == "DiskPressure" and item["status"] == "True" for item in conditions)


def evicted(cluster: NodeCluster, pod: str) -> str:
    """The kubelet's words, once it has."""
    status: dict[str, Any] = cluster.get("pod", pod, namespace="default")["status"]
    return str(status.get("message", "")) if status.get("reason") == "Evicted" else ""


def test_P16_a_full_card_ends_another_pod_and_leaves_the_robot_its_vision(
    cluster: NodeCluster, robot_pod: RobotPod, ordinary_pod: str, steps: StepLog
) -> None:
    before = robot_pod.identity

    def fill_up() -> None:
        node_card.fill(97)
        wait(lambda: under_pressure(cluster), "pressure on the disk")
        wait(lambda: evicted(cluster, ordinary_pod), "the end of the ordinary pod")
        wait(lambda: STRAY_IMAGE not in images(), "the end of its image")

    gap = robot_pod.longest_gap(fill_up, stay=PRESSURE_SECONDS)
    steps.add(f"the card is {node_card.used_percent():.0f} % full; the ordinary pod: {evicted(cluster, ordinary_pod)}")
    steps.add(f"the robot's pod is the same; the longest time without boxes is {gap:.1f} s of {PRESSURE_SECONDS} s")
    assert robot_pod.identity == before
    assert node_images.reference("edge") in images()
    node_card.empty()
    wait(lambda: not under_pressure(cluster), "the end of the pressure")

    seconds = robot_pod.boxes_after(robot_pod.delete)
    steps.add(f"the pod is deleted; a new one of the image that is still there shows boxes after {seconds:.1f} s")


def test_P24_the_kubelet_removes_an_imported_image_and_leaves_a_pinned_one(
    cluster: NodeCluster, machine: K3sMachine, steps: StepLog
) -> None:
    node_card.fill(88)
    wait(lambda: STRAY_IMAGE not in images(), "the kubelet's next look at the images")
    steps.add(f"the card is {node_card.used_percent():.0f} % full, which is no pressure: {STRAY_IMAGE} is gone")
    assert not under_pressure(cluster)
    assert node_images.reference("edge") in images()


def test_P24_what_is_gone_all_the_same_comes_back_at_the_next_start_of_k3s(
    robot_pod: RobotPod, machine: K3sMachine, steps: StepLog
) -> None:
    remove_image(node_images.reference("edge"))
    robot_pod.delete()
    wait(lambda: robot_pod.waiting_reason in ("ErrImagePull", "ImagePullBackOff"), "a pod that lacks its image")
    steps.add(f"the image is removed by hand and the pod deleted: {robot_pod.waiting_reason}")

    def start_again() -> float:
        machine.start_again()
        return time.time()

    seconds = robot_pod.boxes_after(start_again, silence=0.0)
    steps.add(f"k3s's start is stood in for, which imports its archives: boxes after {seconds:.1f} s, by no hand")


def test_P28_a_robot_sees_again_after_its_container_its_node_and_its_board_were_cut(
    robot_pod: RobotPod, steps: StepLog
) -> None:
    uid, restarts = robot_pod.identity
    told = {
        "the API server is away and the container is killed": kill_without_api,
        "kubelet and containers are killed, the API server stays": lambda _: order(NodeOrder.CUT_POWER),
        "kubelet, containers and API server are killed and started": lambda _: order(NodeOrder.CUT_BOARD),
        "the node starts without its API server, which comes later": restart_without_api,
    }
    for what, act in told.items():
        seconds = robot_pod.boxes_after(partial(act, robot_pod))
        steps.add(f"{what}: boxes after {seconds:.1f} s")
        if act is kill_without_api:
            order(NodeOrder.START_API)
    assert robot_pod.identity[0] == uid
    assert robot_pod.identity[1] >= restarts + len(told)


def kill_without_api(pod: RobotPod) -> float:
    container = pod.container()
    order(NodeOrder.STOP_API)
    kill_container(container)
    return time.time()


def restart_without_api(_: RobotPod) -> float:
    """A kubelet that has just started knows its pods from the API server alone."""
    order(NodeOrder.RESTART_WITHOUT_API)
    return order(NodeOrder.START_API)
