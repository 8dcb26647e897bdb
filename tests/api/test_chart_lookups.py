"""What Helm finds out about the cluster before it installs: the API server's port, and a volume for the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kubernetes.client
import pytest
import yaml

from cluster.controlplane import ControlPlane
from support.helm import CHARTS, HelmRefused, helm
from support.network_policies import Peer, may_reach, policies_of
from support.reach_table import pods_of

pytestmark = pytest.mark.api

API_PORT = 16443
QUICKSTART = ("-f", str(CHARTS / "atoll" / "values-quickstart.yaml"))


@pytest.fixture
def cluster(control_plane: ControlPlane, api: kubernetes.client.ApiClient, crds: list[str]) -> Iterator[ControlPlane]:
    """A cluster whose API server listens where the chart's values do not expect it, and that has no storage class."""
    assert crds
    slices = kubernetes.client.DiscoveryV1Api(api)
    with made(
        slices.create_namespaced_endpoint_slice, slices.delete_namespaced_endpoint_slice, "kubernetes", endpoint_slice()
    ):
        yield control_plane


def endpoint_slice() -> dict[str, Any]:
    # A control plane on a loopback address cannot publish itself.
    return {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.10"]}],
        "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP"}],
    }


@contextmanager
def made(create: Any, delete: Any, name: str, body: dict[str, Any], namespace: str = "default") -> Iterator[None]:
    place = {"namespace": namespace} if namespace else {}
    create(body={"metadata": {"name": name}} | body, **place, _request_timeout=10)
    try:
        yield
    finally:
        delete(name, **place, _request_timeout=10)


def installed(plane: ControlPlane, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """The objects that `helm install` would create in this cluster, and its notes."""
    text = helm(
        *("install", "atoll", str(CHARTS / "atoll"), "-n", "atoll", "--dry-run=server"),
        *("--kubeconfig", str(plane.kubeconfig), "--set=crds.enabled=false", *arguments),
    )
    manifests, _, notes = text.partition("MANIFEST:\n")[2].partition("NOTES:\n")
    return [document for document in yaml.safe_load_all(manifests) if document], notes


def test_P21_the_policies_let_the_operator_reach_the_api_server_where_it_listens(cluster: ControlPlane) -> None:
    objects, notes = installed(cluster)
    server = Peer("API server", address="192.0.2.10")
    policies, operator = policies_of(objects), pods_of(objects)["operator"]
    assert [port for port in (443, 6443, API_PORT, 22) if may_reach(policies, operator, server, port)] == [
        443,
        6443,
        API_PORT,
    ]
    # For those who render without a cluster.
    assert f"--set networkPolicy.apiServerPorts={{443,6443,{API_PORT}}}" in notes


def test_a_port_that_the_values_name_needs_no_note(cluster: ControlPlane) -> None:
    objects, notes = installed(cluster, f"--set=networkPolicy.apiServerPorts={{{API_PORT}}}")
    [egress] = [item["spec"]["egress"] for item in policies_of(objects) if item["metadata"]["name"] == "atoll"]
    assert egress[-1] == {"ports": [{"port": API_PORT, "protocol": "TCP"}]}
    assert "apiServerPorts" not in notes


def test_P22_without_a_volume_for_the_store_nothing_is_installed(cluster: ControlPlane) -> None:
    with pytest.raises(HelmRefused, match=r"no default storage class \(it has none\).*persistence\.enabled=false"):
        installed(cluster, *QUICKSTART)
    installed(cluster, *QUICKSTART, "--set=bundledStore.persistence.enabled=false")


@pytest.mark.parametrize(
    ("is_default", "wanted", "problem"),
    [
        (True, "", ""),
        (False, "slow", ""),
        (False, "", r"no default storage class \(it has slow\)"),
        (True, "fast", r"no storage class of that name \(it has slow\)"),
    ],
)
def test_P22_the_classes_of_the_cluster_decide(
    cluster: ControlPlane, api: kubernetes.client.ApiClient, is_default: bool, wanted: str, problem: str
) -> None:
    storage = kubernetes.client.StorageV1Api(api)
    mark = {"storageclass.kubernetes.io/is-default-class": str(is_default).lower()}
    body = {"metadata": {"name": "slow", "annotations": mark}, "provisioner": "example.org/none"}
    with made(storage.create_storage_class, storage.delete_storage_class, "slow", body, namespace=""):
        arguments = (*QUICKSTART, f"--set=bundledStore.persistence.storageClass={wanted}")
        if not problem:
            installed(cluster, *arguments)
            return
        with pytest.raises(HelmRefused, match=problem):
            installed(cluster, *arguments)


def test_a_volume_that_somebody_made_by_hand_will_do(cluster: ControlPlane, api: kubernetes.client.ApiClient) -> None:
    core = kubernetes.client.CoreV1Api(api)
    spec = {"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv/atoll"}}
    with made(core.create_persistent_volume, core.delete_persistent_volume, "by-hand", {"spec": spec}, namespace=""):
        installed(cluster, *QUICKSTART)
        # Nobody here would take the mark away that protects a volume in use.
        core.patch_persistent_volume("by-hand", {"metadata": {"finalizers": None}}, _request_timeout=10)


def test_whoever_serves_some_namespaces_need_not_read_the_cluster(cluster: ControlPlane) -> None:
    objects, _ = installed(cluster, *QUICKSTART, "--set=rbac.scope=namespaced,watch.namespaces={atoll}")
    [egress] = [item["spec"]["egress"] for item in policies_of(objects) if item["metadata"]["name"] == "atoll"]
    assert [port["port"] for port in egress[-1]["ports"]] == [443, 6443]
