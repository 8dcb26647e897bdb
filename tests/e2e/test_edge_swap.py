"""Two devices, one of each architecture, follow a model from v1 to v2, and come back without the bucket. By hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from atoll_operator.api.status import parse_time
from cluster import node_images
from cluster.node import order
from cluster.node_emulation import emulated, is_native
from cluster.node_orders import NodeOrder
from support.cluster_run import ClusterRun
from support.edge_pod import EdgePod
from support.node_cluster import NodeCluster
from support.node_robot import robot
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(5400)]

MODEL = "cells"
# The emulated processor is slower than any Pi by far; what it takes is no figure of a Pi's.
PATIENCE_SECONDS = {"amd64": 240, "arm64": 900}
SILENCE_SECONDS = 1.5


def run_manifest(**training: Any) -> dict[str, Any]:
    return {
        "apiVersion": "atoll.dev/v1alpha1",
        "kind": "TrainingRun",
        "spec": {
            "datasets": [{"key": "datasets/local/field.tar"}],
            "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
            "training": {"batchSize": 8, "accelerator": "cpu"} | training,
            "publish": {"model": MODEL},
        },
    }


@pytest.fixture
def devices(cluster: NodeCluster, installed: str, steps: StepLog, tmp_path: Path) -> Iterator[list[EdgePod]]:
    """A device of each architecture, in a namespace of its own that admits restricted pods alone."""
    with ExitStack() as stack:
        stack.enter_context(emulated())
        made = []
        for arch in PATIENCE_SECONDS:
            foreign = arch if (arch == "arm64") != is_native() else ""
            if foreign:
                node_images.build(["edge"], arch=foreign)
                steps.add(f"the edge image built for {arch}, under emulation")
            image = node_images.reference("edge", arch=foreign)
            node_images.load(image, arch=foreign)
            space = stack.enter_context(cluster.restricted_namespace(f"pi-{arch}"))
            device = EdgePod(cluster, space, MODEL, home=installed, name=f"pi-{arch}", emulated=bool(foreign))
            folder = tmp_path / arch
            folder.mkdir()
            steps.add(f"helm install edge charts/atoll-edge -n {space} -f values-{arch}.yaml   # mode: lab")
            stack.enter_context(device.installed(node_images.helm_image(image), folder))
            made.append(device)
        yield made


def identity(device: EdgePod) -> tuple[str, int]:
    """The pod's uid and how often its container was started again."""
    pod = device.pod()
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def test_devices_swap_without_a_restart_and_boot_without_the_bucket(
    cluster: NodeCluster, installed: str, devices: list[EdgePod], steps: StepLog
) -> None:
    first = ClusterRun(cluster, installed, "cells-one", steps)
    first.apply(run_manifest(initFrom={"type": "random"}, steps=250))
    first.wait(seconds=1800)
    before = {}
    for device, seconds in zip(devices, PATIENCE_SECONDS.values(), strict=True):
        shown = device.shown_to_the_robot(seconds=seconds, sequence=1)
        steps.add(f"{device.name}: v1 serves, the robot sees {len(shown['detections'])} boxes")
        before[device.name] = identity(device)

    second = ClusterRun(cluster, installed, "cells-two", steps)
    names = [device.name for device in devices]
    with robot(names, seconds=1800 + sum(PATIENCE_SECONDS.values()), sequence=2) as waiting:
        second.apply(run_manifest(initFrom={"type": "release", "releaseRef": {"name": f"{MODEL}-v1"}}, steps=30))
        status = second.wait(seconds=1800)
        shown = waiting.shown()
    assert set(shown) == set(names), "\n\n".join(device.diagnostics() for device in devices)
    published = parse_time(status["completionTime"]).timestamp()
    for device in devices:
        assert identity(device) == before[device.name]
        uid, restarts = before[device.name]
        seconds = shown[device.name]["time"] - published
        told = f"boxes of v2 {seconds:.0f} s after the run's end, in the same pod {uid}, restarts {restarts}"
        steps.add(f"{device.name}: {told}")

    devices[0].start_devices()
    for device, seconds in zip(devices, PATIENCE_SECONDS.values(), strict=True):
        mirrored = device.mirrored(seconds=seconds, release=f"{MODEL}-v2")
        assert mirrored["status"]["agentVersion"].startswith(node_images.TAG)
    steps.add("kubectl get edev -o wide")
    steps.show(cluster.kubectl("get", "edev", "-o", "wide", "-n", installed))

    cluster.kubectl("scale", "statefulset/atoll-store", "--replicas=0", "-n", installed)
    cluster.kubectl("wait", "--for=delete", "pod/atoll-store-0", "-n", installed, "--timeout=50s")
    steps.add("the bucket is away; the kubelet and every container are killed, the kubelet is started again")
    with robot(names, seconds=sum(PATIENCE_SECONDS.values()), sequence=2, silence=SILENCE_SECONDS) as waiting:
        began = order(NodeOrder.CUT_POWER)
        shown = waiting.shown()
    assert set(shown) == set(names), "\n\n".join(device.diagnostics() for device in devices)
    for device in devices:
        uid, restarts = identity(device)
        assert uid == before[device.name][0]
        assert restarts > before[device.name][1]
        seconds = shown[device.name]["time"] - began
        steps.add(f"{device.name}: first detection {seconds:.1f} s after the kubelet's start, without the bucket")
