"""What `helm template` writes can be kept in Git: applied server-side a second time, it changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import pytest
from kubernetes.dynamic import DynamicClient

from support.helm import CHARTS, pod_specs, render

pytestmark = pytest.mark.api

MANAGER = "from-git"
# The keys of the store are somebody's own Secret: Helm without a cluster would make new ones each time.
QUICKSTART = (
    "-f",
    str(CHARTS / "atoll" / "values-quickstart.yaml"),
    "--set=bundledStore.existingSecret=keys",
    "--set=metrics.dashboard.enabled=true",
    "--set=edgeDevices[0].namespace=NAMESPACE,edgeDevices[0].store=default,edgeDevices[0].secret=keys",
)
ROBOT = ("--set=model.namespace=team-190,model.name=note,store.bucket=frc,tokenSecretName=token",)
CASES = {
    "atoll": ("atoll", QUICKSTART),
    "a robot": ("atoll-edge", ROBOT),
    "a lab": ("atoll-edge", (*ROBOT, "--set=mode=lab")),
}


class Cluster:
    """Applies objects as one field manager; in the end everything of it goes but the kinds, which are everybody's."""

    def __init__(self, api: kubernetes.client.ApiClient) -> None:
        self._client = DynamicClient(api)
        self._applied: dict[tuple[str, str], dict[str, Any]] = {}

    def apply(self, item: dict[str, Any]) -> dict[str, Any]:
        self._applied[item["kind"], item["metadata"]["name"]] = item
        answer = self._client.server_side_apply(
            self._resource(item),
            body=copy.deepcopy(item),
            name=item["metadata"]["name"],
            namespace=item["metadata"].get("namespace"),
            field_manager=MANAGER,
            force_conflicts=True,
        )
        found: dict[str, Any] = answer.to_dict()
        return found

    def remove(self) -> None:
        for item in self._applied.values():
            if item["kind"] != "CustomResourceDefinition":
                name, namespace = item["metadata"]["name"], item["metadata"].get("namespace")
                self._client.delete(self._resource(item), name=name, namespace=namespace)

    def _resource(self, item: dict[str, Any]) -> Any:
        return self._client.resources.get(api_version=item["apiVersion"], kind=item["kind"])


@pytest.fixture
def cluster(api: kubernetes.client.ApiClient, crds: list[str]) -> Iterator[Cluster]:
    assert crds
    cluster = Cluster(api)
    try:
        yield cluster
    finally:
        cluster.remove()


def settled(live: dict[str, Any]) -> dict[str, Any]:
    """The object without what controllers write into it meanwhile."""
    found = copy.deepcopy(live)
    found.pop("status", None)
    metadata = found["metadata"]
    metadata.pop("resourceVersion")
    metadata["managedFields"] = [entry for entry in metadata["managedFields"] if entry["manager"] == MANAGER]
    return found


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_second_apply_changes_nothing(case: str, cluster: Cluster, namespace: str) -> None:
    chart, words = CASES[case]
    arguments = [word.replace("NAMESPACE", namespace) for word in words]
    objects = render(chart, *arguments, namespace=namespace)
    assert list(pod_specs(objects))
    first = [settled(cluster.apply(item)) for item in objects]
    # Rendered anew, as a GitOps tool does it every few minutes.
    second = [settled(cluster.apply(item)) for item in render(chart, *arguments, namespace=namespace)]
    for before, after in zip(first, second, strict=True):
        assert after == before
        assert len(after["metadata"]["managedFields"]) == 1


def test_a_change_would_be_seen(cluster: Cluster, namespace: str) -> None:
    (settings,) = (item for item in render("atoll-edge", namespace=namespace) if item["kind"] == "ConfigMap")
    before = settled(cluster.apply(settings))
    assert settled(cluster.apply(settings | {"data": {"config.yaml": "{}"}})) != before
