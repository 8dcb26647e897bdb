"""README's way onto a cluster, word for word, and what comes after it: cache hit, upgrade, uninstall, Helm 3.

By hand: `make e2e-full`. With ATOLL_GOLDEN=write it writes the run into docs/install.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster_run import ClusterRun, check_release
from support.first_run_output import first_run_commands
from support.k3s_machine import K3sMachine
from support.node_cluster import NodeCluster
from support.on_k3s_page import block, write_to_page
from support.readme_commands import Shell
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(5400)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "atoll"
SAMPLE = ROOT / "crds" / "samples" / "trainingrun-field.yaml"
LABELS = ("ring", "ball", "pipe")
# The one that README installs into.
NAMESPACE = "atoll"
# It types README's commands, and checks what they lead to.
SCRIPT = "tests/e2e/on_k3s.sh"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def sample() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    return document


def chart_flags(image_values: Path) -> list[str]:
    return ["-f", str(CHART / "values-quickstart.yaml"), "-f", str(image_values), "--wait", "--timeout", "4m"]


@pytest.fixture
def machine(cluster: NodeCluster, kinds_gone: None, tmp_path: Path, steps: StepLog) -> Iterator[K3sMachine]:
    """A machine whose owner has a k3s, as far as there is none."""
    made = K3sMachine(cluster, tmp_path / "machine")
    made.prepare()
    made.bring_make_out()
    steps.add("stood in for: the base image and the bundled store's (no registry here), k3s's volume for the claim")
    yield made
    cluster.helm("uninstall", "atoll", "-n", NAMESPACE, "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=180)
    made.remove()


def test_the_readmes_commands_lead_to_a_release_that_helm_leaves_alone(
    cluster: NodeCluster, machine: K3sMachine, steps: StepLog, tmp_path: Path
) -> None:
    shell, log = Shell(machine.environment), ROOT / "build" / "on-k3s.log"
    steps.add(SCRIPT)
    refusal = shell.refused(SCRIPT, on_node=True, timeout=3600)
    assert "there is no 'k3s' on the PATH: run this on the cluster's machine" in refusal
    steps.show("\n".join(refusal.splitlines()[-2:]))
    machine.stand_in()
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, RESTRICTED)
    steps.add("`k3s ctr images import` is stood in for by the node's containerd; again, in a restricted namespace:")
    shell.run(SCRIPT, on_node=True, timeout=5400)
    text = log.read_text(encoding="utf-8").replace(str(machine.data_folder), "/var/lib/rancher/k3s")
    steps.show(block(text))
    if os.environ.get("ATOLL_GOLDEN") == "write":
        write_to_page(text)

    first = ClusterRun(cluster, NAMESPACE, "field", steps)
    reached = first.wait(seconds=60)
    assert float(reached["metrics"]["int8"]["ap50"]) >= 0.5
    manifest = first.fetch_release(tmp_path)
    check_release(manifest, tmp_path, labels=LABELS)
    golden = [item for item in manifest.files if item.expected]
    assert golden, "no golden picture has a detection on it"
    steps.add(f"{manifest.release} fetched; the model finds what it should on {len(golden)} golden pictures")
    for command in first_run_commands(cluster, NAMESPACE):
        steps.add(command.command)
        steps.show(command.output)

    short = sample()
    short["spec"]["training"]["steps"] = 20
    del short["spec"]["quality"]
    second = ClusterRun(cluster, NAMESPACE, "field-again", steps)
    second.apply(short)
    convert = second.wait(seconds=1800)["stages"][0]
    assert (convert["name"], convert["reason"]) == ("convert", "CacheHit")
    steps.add(f"the second run converted nothing: {convert['message']}")
    steps.add("kubectl get trun,mrel -o wide")
    steps.show(cluster.kubectl("get", "trun,mrel", "-o", "wide", "-n", NAMESPACE))

    flags = ["-f", str(CHART / "values-quickstart.yaml"), "-f", str(ROOT / "build" / "values-images.yaml")]
    cluster.helm("upgrade", "atoll", str(CHART), "-n", NAMESPACE, *flags, "--wait", "--timeout", "4m")
    steps.add("helm upgrade")
    cluster.helm("uninstall", "atoll", "-n", NAMESPACE, "--wait")
    steps.add("helm uninstall leaves the kinds, both runs and both releases")
    left = cluster.kubectl("get", "trun,mrel", "-o", "wide", "-n", NAMESPACE)
    steps.show(left)
    for name in ("trainingrun.atoll.dev/field", "modelrelease.atoll.dev/field-v1", "modelrelease.atoll.dev/field-v2"):
        assert name in left


def test_helm_3_installs_upgrades_and_uninstalls(
    cluster: NodeCluster, kinds_gone: None, namespace: str, image_values: Path, steps: StepLog
) -> None:
    flags = chart_flags(image_values)
    for command in ("install", "upgrade"):
        cluster.helm(command, "atoll", str(CHART), "-n", namespace, *flags, program="helm3")
        steps.add(f"helm {command} with Helm 3")
        assert "default" in cluster.kubectl("get", "tprof,ostore", "-n", namespace)
    steps.show(cluster.helm("test", "atoll", "-n", namespace, program="helm3"))
    cluster.helm("uninstall", "atoll", "-n", namespace, "--wait", program="helm3")
    assert "trainingruns.atoll.dev" in cluster.kubectl("get", "crd")
    steps.add("helm uninstall with Helm 3 leaves the kinds")
