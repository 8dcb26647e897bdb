"""The cluster, the images in it and a release of the chart, for all end-to-end tests of a session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from atoll_operator.api import GROUP
from atoll_operator.api.crds import definitions
from cluster import node_images
from cluster.crds import wait_gone
from cluster.node import down, read_keeper, up
from cluster.node_host import card_gigabytes
from support.node_cluster import NodeCluster, in_use
from support.node_team import Team
from support.node_workers import add_profile
from support.step_log import StepLog

# A small disk has no room for the image that trains; its tests train with stages that do no work.
IMAGES = ("operator", "convert", "edge") if card_gigabytes() else ("operator", "convert", "train", "edge")
KINDS = tuple(f"{definition.plural}.{GROUP}" for definition in definitions().values())
CHART = Path(__file__).parents[2] / "charts" / "atoll"


@pytest.fixture(scope="session")
def steps() -> StepLog:
    """Prints the steps at once, and the log lines of builds and downloads."""
    print()
    steps = StepLog()
    logger = logging.getLogger("cluster")
    logger.setLevel(logging.INFO)
    logger.addHandler(StepLogHandler(steps))
    return steps


class StepLogHandler(logging.Handler):
    """Adds log records to the step log."""

    def __init__(self, steps: StepLog) -> None:
        super().__init__()
        self._steps = steps

    def emit(self, record: logging.LogRecord) -> None:
        self._steps.add(record.getMessage())


@pytest.fixture(scope="session")
def cluster(steps: StepLog) -> Iterator[NodeCluster]:
    """The one-node cluster; one that was up already, or is asked for by ATOLL_KEEP_CLUSTER, stays up.

    The tests delete Atoll's kinds with every object of theirs, so one that somebody uses is not touched.
    """
    found = read_keeper()
    if found is not None and (refusal := in_use(NodeCluster(found).users())):
        pytest.exit(refusal, returncode=2)
    stays = found is not None or bool(os.environ.get("ATOLL_KEEP_CLUSTER"))
    running = NodeCluster(up())
    steps.add("the cluster is up")
    steps.show(running.kubectl("get", "nodes", "-o", "wide"))
    yield running
    if stays:
        assert running.users() == [], "a test left this behind, and the next session would refuse the cluster"
        return
    down()
    steps.add("the cluster is gone")


@pytest.fixture(scope="session")
def image_values(cluster: NodeCluster, steps: StepLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Helm values that name the images, which are built from the Dockerfiles and imported into the node.

    With ATOLL_KEEP_IMAGES those of an earlier run are taken as they are.
    """
    store = node_images.ensure_store()
    if not os.environ.get("ATOLL_KEEP_IMAGES"):
        node_images.build(IMAGES)
        steps.add(f"images built: {', '.join(IMAGES)}; the bundled store's from its Go module")
        for reference in (*map(node_images.reference, IMAGES), store):
            node_images.load(reference)
        steps.add("images imported")
    document = {
        "image": node_images.helm_image(node_images.reference("operator")),
        "images": {stage: node_images.helm_image(node_images.reference(stage)) for stage in ("convert", "train")},
        # The node has no provisioner of volumes.
        "bundledStore": {"image": node_images.helm_image(store), "persistence": {"enabled": False}},
    }
    path = tmp_path_factory.mktemp("images") / "values-images.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture
def namespace(cluster: NodeCluster) -> Iterator[str]:
    """A namespace that admits no pod but restricted ones."""
    with cluster.restricted_namespace("e2e") as name:
        yield name


@pytest.fixture
def namespace_of_team(cluster: NodeCluster) -> Iterator[str]:
    """Another namespace of the same kind, for those who did not install the chart."""
    with cluster.restricted_namespace("team") as name:
        yield name


@pytest.fixture
def kinds_gone(cluster: NodeCluster) -> Iterator[None]:
    """Each test begins on a cluster without Atoll's kinds, which the chart leaves behind, and leaves one, also where it
    fails: a cluster that stays up with a profile in it would look like somebody's."""
    remove_kinds(cluster)
    yield
    remove_kinds(cluster)


def remove_kinds(cluster: NodeCluster) -> None:
    """With every object of them."""
    cluster.kubectl("delete", "crd", *KINDS, "--ignore-not-found", "--wait=false")
    wait_gone(cluster.kubectl, KINDS, timeout_seconds=180)
    roles = "clusterroles,clusterrolebindings"
    cluster.kubectl("delete", roles, "-l", "app.kubernetes.io/part-of=atoll", "--ignore-not-found")


@pytest.fixture
def installed(
    cluster: NodeCluster, kinds_gone: None, namespace: str, image_values: Path, steps: StepLog
) -> Iterator[str]:
    """The namespace with the chart's quick start in it, installed by Helm 4 as its README says."""
    values = ["-f", str(CHART / "values-quickstart.yaml"), "-f", str(image_values)]
    wait = ["--wait", "--wait-for-jobs", "--timeout", "4m"]
    steps.add(f"helm install atoll charts/atoll -n {namespace} -f values-quickstart.yaml -f values-images.yaml")
    cluster.helm("install", "atoll", str(CHART), "-n", namespace, *values, *wait)
    steps.show(cluster.kubectl("get", "pods", "-n", namespace))
    yield namespace
    cluster.helm("uninstall", "atoll", "-n", namespace, "--ignore-not-found", "--wait")


@pytest.fixture
def team(cluster: NodeCluster, installed: str, namespace_of_team: str) -> Team:
    """A namespace beside the quick start's, whose profile `workers` allows two of them."""
    made = Team(cluster, installed, namespace_of_team)
    made.prepare()
    add_profile(made, "workers")
    return made
