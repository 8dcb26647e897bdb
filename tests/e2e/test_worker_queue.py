"""A training with two workers in a queue of the real Kueue, on a real node: held, admitted whole, preempted by a run of
higher priority, resumed. The stages are the real ones.

By hand: `make e2e-full`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.cluster_run import ClusterRun
from support.kueue_queue import NAME as QUEUE
from support.kueue_queue import PRIORITY_LABEL, QUEUE_LABEL
from support.node_cluster import NodeCluster
from support.node_kueue import NodeQueue, kueue_on
from support.node_team import Team
from support.node_workers import add_profile, attempt, state_of, wait_for, weights_of
from support.step_log import StepLog
from support.trained_like_pods import train_here

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

NAME, URGENT = "gang", "urgent"
STEPS, EVERY = 240, 40
SPEC: dict[str, Any] = {
    "datasets": [{"key": "datasets/local/field.tar"}],
    "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
    "training": {
        "workers": 2,
        "initFrom": {"type": "random"},
        "steps": STEPS,
        "batchSize": 8,
        "accelerator": "cpu",
        "checkpointEverySteps": EVERY,
        "evalEverySteps": STEPS // 2,
    },
    "quality": {"minAP50": "0"},
    "publish": {"model": NAME},
}
# The queue has place for two. The stages beside the training ask for none of it, so that no run waits in them.
ONE, TWO = "250m", "500m"
TRAINS = {"requests": {"cpu": ONE, "memory": "64Mi"}, "limits": {"memory": "3Gi"}}
BESIDE = {"requests": {"memory": "64Mi"}, "limits": {"memory": "3Gi"}}


@pytest.fixture
def kueue(cluster: NodeCluster) -> Iterator[None]:
    with kueue_on(cluster):
        yield


@pytest.fixture
def queue(kueue: None, team: Team) -> NodeQueue:
    resources = dict.fromkeys(("convert", "export", "publish"), BESIDE) | {"train": TRAINS}
    labels = [QUEUE_LABEL, PRIORITY_LABEL]
    add_profile(team, "queued", resources=resources, propagateLabels=labels, maxConcurrentRuns=4)
    made = NodeQueue(team, TWO)
    made.make()
    made.add_priority(URGENT, 1000)
    return made


def run(name: str, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    labels = {QUEUE_LABEL: QUEUE} | labels
    return {"metadata": {"name": name, "labels": labels}, "spec": spec | {"profileRef": {"name": "queued"}}}


def urgent_run() -> dict[str, Any]:
    """With one worker, whose training is over soon."""
    short = dict.fromkeys(("steps", "checkpointEverySteps", "evalEverySteps"), 20)
    training = SPEC["training"] | {"workers": 1} | short
    return run(URGENT, {PRIORITY_LABEL: URGENT}, SPEC | {"training": training, "publish": {"model": URGENT}})


def stage(team: Team) -> dict[str, Any]:
    stages = team.runs()[NAME].get("status", {}).get("stages", ())
    return next((item for item in stages if item["name"] == "train"), {})


def told(team: Team, words: str) -> str:
    """The message of the training once it has these words."""
    message = str(stage(team).get("message", ""))
    return message if words in message else ""


def pods(team: Team) -> list[dict[str, Any]]:
    return team.items("pods", "-l", f"atoll.dev/run={NAME},atoll.dev/stage=train")


def test_a_preempted_gang_ends_with_the_weights_of_an_undisturbed_training(
    queue: NodeQueue, team: Team, steps: StepLog, tmp_path: Path
) -> None:
    queue.hold("other", cpu=ONE)
    team.start(run(NAME, {}, SPEC))
    steps.add(str(wait_for(partial(told, team, "waits in queue"), "the training to be held")))
    assert pods(team) == []
    queue.leave("other")
    with attempt(team, NAME, 1) as workers:
        job = stage(team)["jobRef"]
        wait_for(lambda: any(now.checkpoint_step for now in workers[0].log.progress()), "a checkpoint")
        team.start(urgent_run())
        steps.add(str(wait_for(partial(told, team, "was taken out of queue"), "the preemption")))
        wait_for(lambda: not pods(team), "both pods to go")
    assert team.runs()[NAME]["status"]["reason"] == "Queued"

    with attempt(team, NAME, 1) as workers:
        logs = [worker.log for worker in workers]
        states = wait_for(lambda: all(found := [state_of(log) for log in logs]) and found, "the end of both workers")
        resumed = [re.findall(r"going on from the checkpoint of step (\d+)", log.text()) for log in logs]
    steps.add(f"they went on from the steps {resumed}, and end with the states {states}")
    assert resumed[0] == resumed[1] != []
    assert EVERY <= int(resumed[0][0]) < STEPS
    assert states[0] == states[1]

    ClusterRun(team.cluster, team.namespace, URGENT, steps).wait(seconds=600)
    status = ClusterRun(team.cluster, team.namespace, NAME, steps).wait(seconds=600)
    steps.add(f"AP50 {status['summary']['ap50']}")
    assert float(status["summary"]["ap50"]) > 0.2
    train = stage(team)
    assert (train["attempts"], train.get("failures", 0), train["jobRef"]) == (1, 0, job)
    assert weights_of(train) == train_here(tmp_path, SPEC)
