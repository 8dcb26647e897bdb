"""One control plane for the whole api tier, with Atoll's CRDs; a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes.client
import kubernetes.config
import pytest

from cluster.controlplane import ControlPlane
from cluster.crds import install
from cluster.kubelet import Kubelet
from cluster.objects import Objects, profile_manifest, store_manifest
from cluster.operator_process import OperatorProcess

HERE = Path(__file__).parent
# The first test of the tier waits for the control plane as well, on a machine that may be busy.
TEST_SECONDS = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


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
def crds(api: kubernetes.client.ApiClient) -> list[str]:
    """Names of Atoll's CRDs, all of them established on the control plane."""
    return install(api)


@pytest.fixture
def namespace(api: kubernetes.client.ApiClient) -> Iterator[str]:
    """A fresh namespace."""
    with _namespace(api) as name:
        yield name


@pytest.fixture(scope="module")
def team(api: kubernetes.client.ApiClient, crds: list[str]) -> Iterator[Objects]:
    """A namespace as an admin has prepared it: an ObjectStore, and a profile that bears the namespace's name."""
    with _namespace(api) as name:
        objects = Objects(api, name)
        objects.create("objectstores", store_manifest())
        objects.create_profile(profile_manifest(name))
        yield objects


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects) -> Iterator[OperatorProcess]:
    """An operator that serves the team's namespace. In the end its log must hold no error."""
    with OperatorProcess(control_plane, api, team.namespace) as process:
        yield process
        process.stop()
        assert process.problems() == []


@pytest.fixture(scope="module")
def kubelet(team: Objects) -> Iterator[Kubelet]:
    """Ends the pods of the team's stages, with success unless a test has put in a script."""
    with Kubelet(team.api, team.namespace) as running:
        yield running


@contextmanager
def _namespace(api: kubernetes.client.ApiClient) -> Iterator[str]:
    """Its deletion is begun in the end and not waited for."""
    core = kubernetes.client.CoreV1Api(api)
    name = f"test-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}}, _request_timeout=10)
    yield name
    core.delete_namespace(name, _request_timeout=10)
