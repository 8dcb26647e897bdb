"""The table of docs/security.md on a node that enforces policies: each connection of it is tried. By hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from cluster.node_host import BRIDGE_ADDRESS
from support.node_cluster import NodeCluster
from support.polling import wait_until
from support.reach_probe import Address, address_of, listening, make_stand_ins, reached
from support.reach_table import (
    API_SERVER,
    DNS,
    HOME,
    KUBELET,
    METADATA,
    METRICS_PORT,
    OUTSIDE,
    OWN_BUCKET,
    QUICKSTART,
    ROBOT,
    ROBOTS,
    STORE_PORT,
    STRANGER,
    TEAM,
    Reach,
    own_bucket,
    quick_start,
)
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

CHART = Path(__file__).parents[2] / "charts" / "atoll"
NAMESPACES = (HOME, TEAM, ROBOTS, STRANGER[0].namespace)
OPERATOR = "app.kubernetes.io/component=operator,pod-template-hash"
# A busy node takes its time to write the rules of what has just come or changed.
SETTLE_SECONDS = 240


@pytest.fixture
def namespaces(cluster: NodeCluster, kinds_gone: None) -> Iterator[None]:
    """Those of the table, empty."""
    for name in NAMESPACES:
        cluster.kubectl("create", "namespace", name)
    yield
    cluster.helm("uninstall", "atoll", "-n", HOME, "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", timeout=300)


def install(cluster: NodeCluster, command: str, *values: str) -> None:
    """By Helm, which does not wait: the store of the device reporter is not there, and what stands in needs none."""
    cluster.helm(command, "atoll", str(CHART), "-n", HOME, *values, "--timeout", "4m")
    workloads = cluster.kubectl("get", "deployments,statefulsets", "-n", HOME, "-o", "name").split()
    for name in workloads:
        cluster.kubectl("rollout", "status", name, "-n", HOME, "--timeout=4m", timeout=300)


def targets_in(cluster: NodeCluster) -> dict[str, Address]:
    """Where this cluster has what the table names."""
    port = cluster.kubectl("get", "endpointslice", "kubernetes", "-n", "default", "-o", "jsonpath={.ports[0].port}")
    stranger, stranger_port = STRANGER
    return {
        DNS[0].name: (BRIDGE_ADDRESS, DNS[1]),
        API_SERVER[0].name: (BRIDGE_ADDRESS, int(port)),
        "operator": (address_of(cluster, HOME, "-l", OPERATOR), METRICS_PORT),
        KUBELET[0].name: (BRIDGE_ADDRESS, KUBELET[1]),
        stranger.name: (address_of(cluster, stranger.namespace), stranger_port),
        **{peer.name: (peer.address, port) for peer, port in (OUTSIDE, METADATA)},
    }


def expected(reach: Reach, source: str) -> dict[str, bool]:
    """What the table says, where this node and its engine can show it."""
    if source == ROBOT:
        # No policy holds for the host's network, and every pod of this node lets its own node in, as the page says.
        return {peer.name: True for peer, _ in reach.targets}
    # kube-router asks both directions of a policy at once, so that of two pods of the same policy either reaches the
    # other where anybody may. In these charts that is the one pod itself, or its replacement.
    own = reach.sources[source].name
    return {name: answer for name, answer in reach.answers(source).items() if name != own}


def found(probe: Callable[[], dict[str, bool]], wanted: dict[str, bool]) -> dict[str, bool]:
    """What the probe finds once that is as wanted, or at the end of the time that the rules may take."""
    seen: list[dict[str, bool]] = []

    def as_wanted() -> bool:
        seen.append(probe())
        return seen[-1] == wanted

    with suppress(TimeoutError):
        wait_until(as_wanted, what="the rules", timeout_seconds=SETTLE_SECONDS, interval_seconds=2)
    return seen[-1]


def check(cluster: NodeCluster, reach: Reach, targets: dict[str, Address], steps: StepLog) -> None:
    assert set(targets) == {peer.name for peer, _ in reach.targets}
    differing = {}
    for source, peer in reach.sources.items():
        wanted = expected(reach, source)
        asked = {name: targets[name] for name in wanted}
        seen = found(partial(reached, cluster, source, peer, asked), wanted)
        steps.add(f"{source} reaches {', '.join(name for name in seen if seen[name]) or 'nothing'}")
        if wrong := {name: seen[name] for name in wanted if seen[name] != wanted[name]}:
            differing[source] = wrong
    assert differing == {}, "docs/security.md says otherwise"


def test_each_pod_reaches_what_the_security_page_says(
    cluster: NodeCluster, namespaces: None, image_values: Path, steps: StepLog
) -> None:
    quick, own = quick_start(), own_bucket()
    steps.add(f"helm install atoll charts/atoll -n {HOME} -f values-quickstart.yaml, with a device reporter for {TEAM}")
    install(cluster, "install", *QUICKSTART, "-f", str(image_values))
    for reach in (quick, own):
        make_stand_ins(cluster, reach.sources, port=STRANGER[1])
    with listening(*((peer.address, port) for peer, port in (OUTSIDE, METADATA))):
        targets = targets_in(cluster)
        store = (address_of(cluster, HOME, "-l", "statefulset.kubernetes.io/pod-name"), STORE_PORT)
        check(cluster, quick, targets | {"store": store}, steps)
        steps.add(f"helm upgrade to a bucket of one's own, with networkPolicy.stages for {TEAM}")
        install(cluster, "upgrade", *OWN_BUCKET, "-f", str(image_values))
        check(cluster, own, targets_in(cluster), steps)
