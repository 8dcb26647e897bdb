"""A control plane with the real Kueue and one team, whose LocalQueue has two CPUs, as docs/scale.md writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest

from cluster.controlplane import ControlPlane
from cluster.crds import install
from cluster.kubelet import Kubelet
from cluster.kueue import Kueue
from cluster.objects import Objects, profile_manifest
from cluster.operator_process import OperatorProcess
from support.kueue_queue import TeamQueue

NAMESPACE = "team"
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
# Each of the workers and shards asks for one of the queue's CPUs.
ONE_CPU = {"requests": {"cpu": "1"}}


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[kubernetes.client.ApiClient]:
    """A cluster admin's client."""
    with kubernetes.config.new_client_from_config(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture(scope="session")
def kueue(control_plane: ControlPlane, api: kubernetes.client.ApiClient) -> Iterator[Kueue]:
    with Kueue(control_plane.kubeconfig, api) as running:
        yield running


@pytest.fixture(scope="session")
def team(api: kubernetes.client.ApiClient) -> Objects:
    """A namespace whose profile lets several workers train."""
    install(api)
    kubernetes.client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}}, _request_timeout=10)
    objects = Objects(api, NAMESPACE)
    stages = ("convert", "train", "export")
    settings: dict[str, Any] = {"limits": {"maxWorkers": 2}, "resources": dict.fromkeys(stages, ONE_CPU)}
    objects.create_profile(profile_manifest("default", **settings))
    return objects


@pytest.fixture(scope="session")
def queue(kueue: Kueue, team: Objects) -> TeamQueue:
    """The team's queue, made of the objects that the page shows."""
    (text,) = re.findall(r"```yaml\n(.*?kind: ClusterQueue.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    kueue.create(text, namespace=team.namespace)
    made = TeamQueue(team)
    made.add_priority("urgent", 1000)
    return made


@pytest.fixture(scope="session")
def operator(control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects) -> Iterator[OperatorProcess]:
    """An operator that serves the team's namespace. In the end its log must hold no error."""
    with OperatorProcess(control_plane, api, team.namespace) as process:
        yield process
        process.stop()
        assert process.problems() == []


@pytest.fixture(scope="session")
def kubelet(team: Objects) -> Iterator[Kubelet]:
    with Kubelet(team.api, team.namespace) as running:
        yield running
