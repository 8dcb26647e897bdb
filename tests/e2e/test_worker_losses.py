"""One training with two workers in two pods of a real node, which loses one of them six times.

By hand: `make e2e-full`. The stages are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from atoll_contract.stage_result import Progress
from support.node_team import Team
from support.node_workers import FollowedLog, attempt, state_of, wait_for
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

NAME = "two"
EVERY, STEPS = 60, 180
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
        "evalEverySteps": STEPS,
    },
    # So few steps make no good detector.
    "quality": {"minAP50": "0"},
    "runPolicy": {"backoffLimit": 3},
    "profileRef": {"name": "workers"},
    "publish": {"model": NAME},
}


@dataclass(frozen=True)
class Loss:
    """`worker` is killed when worker `told_by` says that it is there, and the next attempt begins after step `resumed`.
    The run has counted so many `failures` then, one of these numbers."""

    worker: int
    when: str
    is_there: Callable[[Progress], bool]
    resumed: int
    failures: tuple[int, ...]
    told_by: int = 0


LOSSES = (
    Loss(0, "before the first checkpoint", lambda now: bool(now.step), resumed=0, failures=(1,)),
    Loss(1, "before the first checkpoint", lambda now: bool(now.step), resumed=0, failures=(2,)),
    Loss(
        1,
        "after the first checkpoint",
        lambda now: now.checkpoint_step == EVERY,
        resumed=EVERY,
        failures=(1,),
        told_by=1,
    ),
    Loss(0, "after the second", lambda now: now.checkpoint_step == 2 * EVERY, resumed=2 * EVERY, failures=(1,)),
    Loss(1, "in the last steps", lambda now: (now.step or 0) > STEPS - EVERY / 2, resumed=2 * EVERY, failures=(2,)),
    # Killed before worker 1 has notice of that checkpoint, nobody tells the operator of it, and the loss counts too.
    Loss(0, "as it stores the result", lambda now: now.checkpoint_step == STEPS, resumed=STEPS, failures=(1, 3)),
)


def test_a_training_in_two_pods_survives_the_loss_of_either(team: Team, steps: StepLog) -> None:
    team.start({"metadata": {"name": NAME}, "spec": SPEC})
    for number, loss in enumerate(LOSSES, 1):
        lose(team, loss, number, steps)
    with attempt(team, NAME, len(LOSSES) + 1) as workers:
        logs = [worker.log for worker in workers]
        wait_for(lambda: all(map(state_of, logs)), "the end of both workers")
        states = [state_of(log) for log in logs]
    steps.add(f"the workers end with the states {states}")
    assert len(set(states)) == 1

    status = wait_for(lambda: ended(team), "the end of the run")
    steps.add(f"{status['phase']} after {len(LOSSES) + 1} attempts: {status['message']}")
    assert status["phase"] == "Succeeded", status
    assert [item["metadata"]["name"] for item in team.items("mrel")] == [f"{NAME}-v1"]


def lose(team: Team, loss: Loss, number: int, steps: StepLog) -> None:
    """Kills a worker of the attempt, and waits for the next one."""
    with attempt(team, NAME, number) as workers:
        teller, killed = workers[loss.told_by].log, workers[loss.worker]
        wait_for(partial(has_come, teller, loss), loss.when)
        killed.kill()
        steps.add(f"attempt {number}: worker {loss.worker} is killed {loss.when}, {reached(workers[0].log)}")
    stage = wait_for(partial(train_stage, team, attempts=number + 1), f"attempt {number + 1}")
    assert stage.get("failures", 0) in loss.failures, stage
    untold = 0 if stage.get("failures", 0) == loss.failures[0] else EVERY
    assert loss.resumed - untold <= stage.get("checkpointStep", 0) <= loss.resumed, stage


def has_come(log: FollowedLog, loss: Loss) -> bool:
    return any(map(loss.is_there, log.progress()))


def reached(log: FollowedLog) -> str:
    newest = log.progress()[-1]
    return f"at step {newest.step} or later, with the checkpoint of step {newest.checkpoint_step or 0}"


def train_stage(team: Team, *, attempts: int) -> dict[str, Any] | None:
    status = team.runs()[NAME].get("status", {})
    assert status.get("phase") != "Failed", status
    stages = status.get("stages", ())
    stage: dict[str, Any] = next((item for item in stages if item["name"] == "train"), {})
    return stage if stage.get("attempts", 0) >= attempts else None


def ended(team: Team) -> dict[str, Any] | None:
    status: dict[str, Any] = team.runs()[NAME].get("status", {})
    return status if status.get("phase") in ("Succeeded", "Failed") else None
