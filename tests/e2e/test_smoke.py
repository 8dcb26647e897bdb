"""One small run, all the way: cluster, images, Helm, `kubectl apply`, real pods, the published bundle, the robot."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import node_images
from support.cluster_run import ClusterRun, check_release
from support.edge_pod import EdgePod
from support.node_cluster import NodeCluster
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

RUN = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingRun",
    "spec": {
        "datasets": [{"key": "datasets/local/field.tar"}],
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
        "training": {"initFrom": {"type": "random"}, "steps": 250, "batchSize": 8, "accelerator": "cpu"},
        "publish": {"model": "smoke"},
    },
}


def test_from_helm_install_to_what_the_robot_sees(
    cluster: NodeCluster, installed: str, steps: StepLog, tmp_path: Path
) -> None:
    run = ClusterRun(cluster, installed, "smoke", steps)
    run.apply(RUN)
    status = run.wait(seconds=900)
    steps.add("kubectl get trun,mrel -o wide")
    steps.show(cluster.kubectl("get", "trun,mrel", "-o", "wide", "-n", installed))
    assert [stage["phase"] for stage in status["stages"]] == [
        "Succeeded", "Succeeded", "Succeeded", "Skipped", "Succeeded",
    ]  # fmt: skip
    assert status["summary"]["release"] == "smoke-v1"
    assert status["summary"]["tpu"] == "no compiler"
    # Far from a good detector, and farther from chance: which boxes it finds is left to the longer run.
    assert float(status["metrics"]["int8"]["ap50"]) >= 0.2
    manifest = run.fetch_release(tmp_path)
    names = check_release(manifest, tmp_path, labels=("ring", "ball", "pipe"))
    assert names == ["map.pbtxt", "unoptimized.tflite"]
    steps.add(f"{manifest.release} fetched from the bucket, tried on its golden pictures; bundle: {', '.join(names)}")

    device = EdgePod(cluster, installed, "smoke", home=installed)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    steps.add(f"helm install edge charts/atoll-edge -n {installed} -f values-edge.yaml   # mode: lab")
    with device.installed(node_images.helm_image(node_images.reference("edge")), pictures):
        shown = device.shown_to_the_robot(seconds=240)
        assert shown["sequence"] == 1
        assert shown["labels"] == ["ring", "ball", "pipe"]
        first = shown["detections"][0]
        steps.add(f"the robot sees {len(shown['detections'])} boxes, the first: {first['label']} {first['score']:.2f}")
        device.start_devices()
        steps.add("helm upgrade atoll charts/atoll --reuse-values, with edgeDevices for this namespace")
        device.mirrored(seconds=120, release="smoke-v1")
        steps.add("kubectl get edev")
        steps.show(cluster.kubectl("get", "edev", "-n", installed))
