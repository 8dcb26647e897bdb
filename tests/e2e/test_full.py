"""The sample run and what comes after it: cache hit, upgrade, test, uninstall, Helm 3. By hand: `make e2e-full`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster_run import ClusterRun, check_release
from support.node_cluster import NodeCluster
from support.story import Story

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(5400)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "atoll"
SAMPLE = ROOT / "crds" / "samples" / "trainingrun-bccd.yaml"
LABELS = ("Platelets", "RBC", "WBC")


def sample() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    return document


def chart_flags(image_values: Path) -> list[str]:
    return ["-f", str(CHART / "values-quickstart.yaml"), "-f", str(image_values), "--wait", "--timeout", "4m"]


def test_the_sample_trains_and_helm_leaves_it_alone(
    cluster: NodeCluster, installed: str, image_values: Path, story: Story, tmp_path: Path
) -> None:
    first = ClusterRun(cluster, installed, "bccd", story)
    first.apply(sample())
    status = first.wait(seconds=3600)
    assert float(status["metrics"]["int8"]["ap50"]) >= 0.25
    manifest = first.fetch_release(tmp_path)
    check_release(manifest, tmp_path, labels=LABELS)
    golden = [item for item in manifest.files if item.expected]
    assert golden, "no golden picture has a detection on it"
    story.tell(f"{manifest.release} fetched; the model finds what it should on {len(golden)} golden pictures")

    short = sample()
    short["spec"]["training"]["steps"] = 20
    second = ClusterRun(cluster, installed, "bccd-again", story)
    second.apply(short)
    convert = second.wait(seconds=1800)["stages"][0]
    assert (convert["name"], convert["reason"]) == ("convert", "CacheHit")
    story.tell(f"the second run converted nothing: {convert['message']}")

    cluster.helm("upgrade", "atoll", str(CHART), "-n", installed, *chart_flags(image_values))
    story.tell("helm upgrade")
    story.show(cluster.helm("test", "atoll", "-n", installed, "--logs"))
    cluster.helm("uninstall", "atoll", "-n", installed, "--wait")
    story.tell("helm uninstall leaves the kinds, both runs and both releases")
    left = cluster.kubectl("get", "trun,mrel", "-o", "wide", "-n", installed)
    story.show(left)
    for name in ("trainingrun.atoll.dev/bccd", "modelrelease.atoll.dev/bccd-v1", "modelrelease.atoll.dev/bccd-v2"):
        assert name in left


def test_helm_3_installs_upgrades_and_uninstalls(
    cluster: NodeCluster, kinds_gone: None, namespace: str, image_values: Path, story: Story
) -> None:
    flags = chart_flags(image_values)
    for command in ("install", "upgrade"):
        cluster.helm(command, "atoll", str(CHART), "-n", namespace, *flags, program="helm3")
        story.tell(f"helm {command} with Helm 3")
        assert "default" in cluster.kubectl("get", "tprof,ostore", "-n", namespace)
    story.show(cluster.helm("test", "atoll", "-n", namespace, program="helm3"))
    cluster.helm("uninstall", "atoll", "-n", namespace, "--wait", program="helm3")
    assert "trainingruns.atoll.dev" in cluster.kubectl("get", "crd")
    story.tell("helm uninstall with Helm 3 leaves the kinds")
