"""Old snapshots of profiles go, by the operator's own rights, and those that a run needs stay."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes.client
import pytest

from atoll_operator.controller.profile_snapshots import ProfileSnapshot, SnapshotSweep
from atoll_operator.kube.client import Cluster, connect_as_user
from atoll_operator.kube.objects import PROFILES, REVISIONS
from cluster.controlplane import ControlPlane
from cluster.objects import Objects
from cluster.operator_process import OperatorProcess

pytestmark = pytest.mark.api


@pytest.fixture
def cluster(control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects) -> Iterator[Cluster]:
    """Calls as the operator's own account."""
    process = OperatorProcess(control_plane, api, team.namespace)
    connected, _ = connect_as_user(str(process.kubeconfig), None, timeout_seconds=10.0)
    yield connected
    process.close()


def snapshot_of(cluster: Cluster, profile: str, number: int) -> ProfileSnapshot:
    """The profile as it was before its `number`th edit."""
    body = cluster.read(PROFILES, None, profile)
    assert body is not None
    return ProfileSnapshot(profile, body["spec"] | {"maxConcurrentRuns": 100 + number})


def test_snapshots_that_nobody_needs_go_after_two_rounds(cluster: Cluster, team: Objects) -> None:
    namespace, profile = team.namespace, team.namespace
    old = [snapshot_of(cluster, profile, number) for number in range(6)]
    body = cluster.read(PROFILES, None, profile)
    assert body is not None
    current = ProfileSnapshot(profile, body["spec"])
    for snapshot in (*old, current):
        cluster.create(REVISIONS, namespace, snapshot.manifest())
    foreign = current.manifest() | {"data": {"profile": profile, "spec": {"maxConcurrentRuns": 7}}}
    foreign["metadata"] = foreign["metadata"] | {"name": "somebody-elses"}
    cluster.create(REVISIONS, namespace, foreign)
    needed = {old[0].revision, old[1].revision}
    sweep = SnapshotSweep(cluster, own_namespace=namespace, in_use=lambda: needed, kept=1)
    assert sweep() == []
    # A run took one of them between the rounds.
    needed.add(old[2].revision)
    removed = sweep()
    left = {item["metadata"]["name"] for item in cluster.list_all(REVISIONS, namespace)}
    assert len(removed) == 2
    assert set(removed) < {snapshot.revision for snapshot in old[3:]}
    assert left == {item.revision for item in (*old, current)} - set(removed) | {"somebody-elses"}
    needed.clear()
    sweep()
    sweep()
    left = {item["metadata"]["name"] for item in cluster.list_all(REVISIONS, namespace)}
    assert len(left) == 3
    assert {current.revision, "somebody-elses"} < left
