"""One training with two workers in two pods of a real node: it loses one, goes on, and lets nobody else reach them.

By hand: `make e2e-full`. The stages are the real ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from atoll_contract.stage_result import parse_line
from atoll_operator.jobs.workers import WORKER_PORT
from cluster.node_containerd import kill_container
from support.network_policies import Peer
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.reach_probe import Address, make_stand_ins, reached
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

NAME = "two"
CHECKPOINT_EVERY = 20
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "3Gi"}}
RUN = {
    "metadata": {"name": NAME},
    "spec": {
        "profileRef": {"name": "workers"},
        "datasets": [{"key": "datasets/local/field.tar"}],
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
        "training": {
            "workers": 2,
            "initFrom": {"type": "random"},
            "steps": 200,
            "batchSize": 8,
            "accelerator": "cpu",
            "checkpointEverySteps": CHECKPOINT_EVERY,
            "evalEverySteps": 200,
        },
        "publish": {"model": NAME},
    },
}
LABELS = {"atoll.dev/stage": "train", "app.kubernetes.io/managed-by": "atoll"}


@pytest.fixture
def team(cluster: NodeCluster, installed: str, namespace_of_team: str) -> Team:
    made = Team(cluster, installed, namespace_of_team)
    made.prepare()
    small = dict.fromkeys(("convert", "train", "export", "publish"), SMALL)
    made.profile("workers", limits={"maxWorkers": 2}, resources=small)
    return made


@pytest.fixture
def elsewhere(cluster: NodeCluster) -> Iterator[str]:
    with cluster.restricted_namespace("elsewhere") as name:
        yield name


def worker_pods(team: Team, attempt: int) -> list[dict[str, Any]]:
    """The pods of an attempt, by index."""
    return [
        pod
        for index in range(2)
        for pod in team.items("pods", "-l", f"{_attempt(attempt)},batch.kubernetes.io/job-completion-index={index}")
    ]


def log_of(team: Team, attempt: int, index: int) -> str:
    selector = f"{_attempt(attempt)},batch.kubernetes.io/job-completion-index={index}"
    return team.cluster.kubectl("logs", "-n", team.namespace, "-l", selector, "-c", "train", "--tail=-1")


def _attempt(number: int) -> str:
    return f"atoll.dev/stage=train,atoll.dev/attempt={number}"


def step_of(team: Team, attempt: int) -> int:
    """The step that the attempt has reached; 0 where its first worker does not run yet."""
    pods = worker_pods(team, attempt)
    if len(pods) < 2 or any(pod["status"]["phase"] == "Pending" for pod in pods):
        return 0
    lines = log_of(team, attempt, 0).splitlines()
    return max((progress.step or 0 for progress in map(parse_line, lines) if progress is not None), default=0)


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


def check_reach(team: Team, peers: dict[str, Peer], steps: StepLog) -> None:
    addresses: dict[str, Address] = {
        f"worker {index}": (pod["status"]["podIP"], WORKER_PORT) for index, pod in enumerate(worker_pods(team, 1))
    }
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


def test_a_training_in_two_pods_goes_on_when_it_loses_one(team: Team, elsewhere: str, steps: StepLog) -> None:
    team.start(RUN)
    peers = strangers(team, team.runs()[NAME]["metadata"]["uid"], elsewhere)
    make_stand_ins(team.cluster, peers, port=8080)
    wait(lambda: step_of(team, 1) > 0, "the first step")
    steps.show(team.cluster.kubectl("get", "jobs,pods,services,networkpolicies", "-n", team.namespace, "-o", "wide"))
    check_reach(team, peers, steps)

    wait(lambda: step_of(team, 1) > CHECKPOINT_EVERY, "the first checkpoint")
    reached_step = step_of(team, 1)
    _, second = worker_pods(team, 1)
    kill_container(second["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://"))
    steps.add(f"worker 1 is killed at step {reached_step}")
    wait(lambda: step_of(team, 2) > 0, "the second attempt")
    going_on = re.search(r"going on from the checkpoint of step (\d+)", log_of(team, 2, 0))
    assert going_on is not None
    assert 0 < int(going_on[1]) <= reached_step + CHECKPOINT_EVERY
    steps.add(going_on[0])

    status = wait(lambda: ended(team), "the end of the run")
    train = next(item for item in status["stages"] if item["name"] == "train")
    steps.add(f"{status['phase']} after {train['attempts']} attempts: {status['message']}")
    steps.add(f"the first attempt: {train['lastFailure']['reason']}, {train['lastFailure']['message']}")
    assert (status["phase"], train["attempts"]) == ("Succeeded", 2)
    # It went on from a checkpoint of its own, so that the loss need not count any more.
    assert train["failures"] <= 1
    assert status["release"]["name"] == f"{NAME}-v1"


def ended(team: Team) -> dict[str, Any] | None:
    status: dict[str, Any] = team.runs()[NAME].get("status", {})
    return status if status.get("phase") in ("Succeeded", "Failed") else None


def wait(probe: Callable[[], object], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=600, interval_seconds=1)
