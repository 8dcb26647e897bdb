"""Runs that compile for three chips in pods of a real node, with the compilers and simulators of Rockchip and Qualcomm.

By hand: `make e2e-targets`. It builds the compilers' images, whose licences are for who builds them. With
ATOLL_GOLDEN=write it writes the figures into docs/targets.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.release import Role
from atoll_operator.api.status import MAX_STATUS_BYTES
from cluster import node_images
from cluster.node_containerd import kill_container
from support.cluster_run import ClusterRun, check_release
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.step_log import StepLog
from support.target_table import CLUSTER, rows_of, table, write_table

pytestmark = [pytest.mark.e2e, pytest.mark.targets, pytest.mark.slow, pytest.mark.timeout(5400)]

IMAGES = ("compile-rknn", "compile-qnn")
# The simulators compute with the chips' own roundings.
MAX_DIFFERENCE = 0.02
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "4Gi"}}
STAGES = ("convert", "train", "export", "compile", "publish")
RKNN, QNN = {"target": "rknn", "chip": "rk3588"}, {"target": "qnn", "chip": "qcs6490"}
RUN_DEADLINE_SECONDS = 2400

Kill = tuple[str, Callable[[], bool]]


def run_of(model: str, *, steps: int, profile: str, targets: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "apiVersion": "atoll.dev/v1alpha1",
        "kind": "TrainingRun",
        "spec": {
            "profileRef": {"name": profile},
            "datasets": [{"key": "datasets/local/field.tar"}],
            "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
            "training": {"initFrom": {"type": "random"}, "steps": steps, "batchSize": 8, "accelerator": "cpu"},
            "compile": targets,
            "publish": {"model": model},
        },
    }


@pytest.fixture(scope="module")
def compilers(cluster: NodeCluster, steps: StepLog) -> dict[str, str]:
    """The images with Rockchip's and with Qualcomm's compiler, by the profile's names for them."""
    if not os.environ.get("ATOLL_KEEP_IMAGES"):
        node_images.build(IMAGES)
        for name in IMAGES:
            node_images.load(node_images.reference(name))
        steps.add(f"images built and imported: {', '.join(IMAGES)}")
    rknn, qnn = map(node_images.reference, IMAGES)
    return {"compileRKNN": rknn, "compileQNN": qnn}


@pytest.fixture
def team(cluster: NodeCluster, installed: str, compilers: dict[str, str]) -> Team:
    """With the profile `chips`, which names an image for each compiler, and `mistaken`, whose image for Rockchip's
    chips has no compiler for them. Neither names one for the Coral."""
    made = Team(cluster, installed, installed)
    own = cluster.get("trainingprofile", "default", namespace=installed)["spec"]["images"]
    resources = dict.fromkeys(STAGES, SMALL)
    made.profile("chips", images=own | compilers, resources=resources)
    made.profile("mistaken", images=own | compilers | {"compileRKNN": compilers["compileQNN"]}, resources=resources)
    return made


def kill_attempt(team: Team, attempt: int, planned: Mapping[str, Kill], steps: StepLog) -> None:
    """Kills the container of each target's attempt at the moment that is planned for it."""
    left = dict(planned)

    def all_killed() -> bool:
        for target, (moment, is_now) in tuple(left.items()):
            identity = running_container(team, f"atoll.dev/target={target},atoll.dev/attempt={attempt}")
            if identity and is_now():
                kill_container(identity)
                steps.add(f"kill -9 of attempt {attempt} of {target}, {moment}")
                del left[target]
        return not left

    wait_until(all_killed, what="the moments to kill", timeout_seconds=RUN_DEADLINE_SECONDS, interval_seconds=0.2)


def kill_operator(team: Team, steps: StepLog) -> None:
    identity = running_container(team, "app.kubernetes.io/component=operator")
    assert identity
    kill_container(identity)
    steps.add("kill -9 of the operator")


def running_container(team: Team, labels: str) -> str | None:
    states = (state for pod in team.items("pods", "-l", labels) for state in pod["status"].get("containerStatuses", []))
    running = next((state for state in states if "running" in state["state"]), None)
    return str(running["containerID"]).removeprefix("containerd://") if running else None


def compiler_folder(target: str) -> Path | None:
    """The folder in which an image's compiler works somewhere on this node, as this machine sees it."""
    tool = f"/tools/{target}_tool.py"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(encoding="utf-8", errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if words[0].startswith("/opt/compilers/") and any(word.endswith(tool) for word in words):
            return process / "root" / words[-1].lstrip("/")
    return None


def compiles(target: str) -> bool:
    return compiler_folder(target) is not None


def simulates(target: str, compiled: str) -> bool:
    """Whether the compiler has written its file, and so works on what its simulator finds."""
    folder = compiler_folder(target)
    return folder is not None and (folder / compiled).is_file()


def test_two_chips_are_measured_in_their_simulators_and_go_on_after_kills(
    team: Team, steps: StepLog, tmp_path: Path
) -> None:
    run = ClusterRun(team.cluster, team.namespace, "chips", steps)
    run.apply(run_of("chips", steps=400, profile="chips", targets=[{"target": "edgetpu"}, RKNN, QNN]))
    begins = {
        "rknn": ("while its compiler works", lambda: compiles("rknn")),
        "qnn": ("as it begins", lambda: True),
    }
    ends = {
        "rknn": ("while its simulator works", lambda: simulates("rknn", "compiled.rknn")),
        "qnn": ("while its emulation works", lambda: simulates("qnn", "compiled.onnx")),
    }
    kill_attempt(team, 1, begins, steps)
    kill_operator(team, steps)
    kill_attempt(team, 2, ends, steps)
    steps.add("kubectl get pods -L atoll.dev/target")
    steps.show(team.cluster.kubectl("get", "pods", "-L", "atoll.dev/target", "-n", team.namespace))
    status = run.wait(seconds=RUN_DEADLINE_SECONDS)

    steps.add("kubectl get trun,mrel -o wide")
    steps.show(team.cluster.kubectl("get", "trun,mrel", "-o", "wide", "-n", team.namespace))
    size = len(json.dumps(status).encode())
    steps.add(f"the status has {size} bytes")
    assert size <= MAX_STATUS_BYTES
    entries = {item["target"]: item for item in status["compile"]}
    assert list(entries) == ["edgetpu", "rknn", "qnn"]
    assert (entries["edgetpu"]["compiled"], entries["edgetpu"]["reason"]) == (False, "CompilerUnavailable")
    int8 = float(status["metrics"]["int8"]["ap50"])
    assert int8 > 0.1
    for target in ("rknn", "qnn"):
        entry = entries[target]
        steps.add(f"{target}: {entry['stage']['message']}; {entry['stage']['attempts']} attempts")
        assert entry["compiled"] is True
        assert entry["figures"]["source"] == "simulator"
        assert abs(float(entry["figures"]["ap50"]) - int8) <= MAX_DIFFERENCE
        assert entry["stage"]["attempts"] == 3
    manifest = run.fetch_release(tmp_path)
    check_release(manifest, tmp_path, labels=("ring", "ball", "pipe"))
    files = {item.target: item.name for item in manifest.files if item.role is Role.MODEL_COMPILED}
    assert files == {"rknn": "model-rk3588.rknn", "qnn": "model-qcs6490.onnx"}
    found = table(rows_of(status, manifest))
    steps.show(found)
    if os.environ.get("ATOLL_GOLDEN") == "write":
        write_table(CLUSTER, found)


def test_an_image_without_its_compiler_leaves_the_other_target(team: Team, steps: StepLog) -> None:
    run = ClusterRun(team.cluster, team.namespace, "mistaken", steps)
    run.apply(run_of("mistaken", steps=60, profile="mistaken", targets=[RKNN, QNN]))
    status = run.wait(seconds=RUN_DEADLINE_SECONDS)
    steps.add(f"{status['summary']['targets']}: {status['message']}")
    rknn, qnn = status["compile"]
    assert (rknn["compiled"], rknn["reason"]) == (False, "CompilerUnavailable")
    assert "no compiler for the Rockchip NPU" in rknn["stage"]["message"]
    assert (qnn["compiled"], qnn["figures"]["source"]) == (True, "simulator")
    assert status["release"]["name"] == "mistaken-v1"
