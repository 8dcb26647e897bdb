"""Nobody but the workers of a training reaches them on a real node, and they leave nothing open behind.

By hand: `make e2e-full`. The stages are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from atoll_operator.jobs.workers import WORKER_PORT
from support.network_policies import Peer
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.node_workers import WorkerPod, attempt, wait_for
from support.polling import wait_until
from support.reach_probe import Address, make_stand_ins, reached
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

NAME = "two"
RUN = {
    "metadata": {"name": NAME},
    "spec": {
        "profileRef": {"name": "workers"},
        "datasets": [{"key": "datasets/local/field.tar"}],
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
        # It is cancelled when everybody has tried.
        "training": {
            "workers": 2,
            "initFrom": {"type": "random"},
            "steps": 5000,
            "batchSize": 8,
            "accelerator": "cpu",
        },
        "publish": {"model": NAME},
    },
}
LABELS = {"atoll.dev/stage": "train", "app.kubernetes.io/managed-by": "atoll"}


@pytest.fixture
def elsewhere(cluster: NodeCluster) -> Iterator[str]:
    with cluster.restricted_namespace("elsewhere") as name:
        yield name


def strangers(team: Team, run_uid: str, elsewhere: str) -> dict[str, Peer]:
    """Who tries to reach the workers. The first has the labels of the run's own, so that the others' failure is that of
    the policy."""
    own = LABELS | {"atoll.dev/run-uid": run_uid}
    return {
        "own": Peer("own", team.namespace, own),
        "another run": Peer("another run", team.namespace, LABELS | {"atoll.dev/run-uid": "another"}),
        "another pod": Peer("another pod", team.namespace, {"app": "other"}),
        "another namespace": Peer("another namespace", elsewhere, own),
    }


def check_reach(team: Team, workers: Sequence[WorkerPod], peers: dict[str, Peer], steps: StepLog) -> None:
    addresses: dict[str, Address] = {f"worker {item.index}": (item.address, WORKER_PORT) for item in workers}
    for name, peer in peers.items():
        who = "both workers" if name == "own" else "neither worker"
        # A busy node takes its time to write the rules of what has just come.
        wait_until(
            partial(reaches_all_or_none, team.cluster, name, peer, addresses),
            what=f"{name} to reach {who} of {addresses}",
            timeout_seconds=60,
            interval_seconds=1,
        )
        steps.add(f"{name} reaches {who} at port {WORKER_PORT}")


def reaches_all_or_none(cluster: NodeCluster, name: str, peer: Peer, addresses: dict[str, Address]) -> bool:
    return reached(cluster, name, peer, addresses) == dict.fromkeys(addresses, name == "own")


def test_only_the_workers_of_a_run_reach_each_other(team: Team, elsewhere: str, steps: StepLog) -> None:
    team.start(RUN)
    peers = strangers(team, team.runs()[NAME]["metadata"]["uid"], elsewhere)
    make_stand_ins(team.cluster, peers, port=8080)
    with attempt(team, NAME, 1) as workers:
        wait_for(lambda: any(now.step for now in workers[0].log.progress()), "the first step")
        kinds = "jobs,pods,services,networkpolicies"
        steps.show(team.cluster.kubectl("get", kinds, "-n", team.namespace, "-o", "wide"))
        check_reach(team, workers, peers, steps)
    team.cluster.kubectl("patch", "trun", NAME, "-n", team.namespace, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    wait_for(lambda: team.runs()[NAME]["status"]["phase"] == "Cancelled", "the run to be cancelled")
    steps.add("the run is cancelled")
