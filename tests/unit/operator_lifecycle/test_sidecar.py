"""A container that somebody put into a stage's pod does not keep the run from going on (fault P15)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.lifecycle.model import JobView, PodPhase
from atoll_operator.lifecycle.running import GRACE_SECONDS
from support.decide_world import World, failure, success


def at_work() -> tuple[World, JobView]:
    world = World()
    world.to_stage(Stage.TRAIN)
    job = world.start()
    world.settle()
    return world, job


def end_stage(world: World, job: JobView, *, code: int, message: str) -> None:
    """The stage's container ends; another one keeps pod and Job."""
    world.pod_of(
        job,
        phase=PodPhase.RUNNING,
        exit_code=code,
        termination_message=message,
        finished=world.now,
        kept_by_another=True,
    )


def test_a_success_is_recorded_and_then_the_job_goes() -> None:
    world, job = at_work()
    end_stage(world, job, code=0, message=success(Stage.TRAIN, 1))
    world.settle()
    assert world.stage(Stage.TRAIN).phase is StagePhase.RUNNING
    world.pass_time(GRACE_SECONDS)
    plan = world.look(crash_before="delete")
    assert world.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED
    assert [item.name for item in plan.delete] == [job.name]
    # The operator died before it deleted the Job: the next look does.
    world.settle()
    assert job.name not in world.jobs
    world.finish()
    assert world.read().phase is Phase.SUCCEEDED
    assert world.created[job.name] == 1


def test_a_failure_is_recorded_and_tried_again() -> None:
    world, job = at_work()
    end_stage(world, job, code=1, message=failure(Stage.TRAIN, 1, Reason.INTERNAL_ERROR))
    world.pass_time(GRACE_SECONDS)
    world.settle()
    train = world.stage(Stage.TRAIN)
    assert (train.phase, train.failures, train.last_failure.reason) == (StagePhase.PENDING, 1, Reason.INTERNAL_ERROR)
    assert job.name not in world.jobs
    world.finish()
    assert world.read().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("change", ["deleting", "disruption", "node_lost"])
def test_a_pod_that_is_on_its_way_out_is_left_to_its_job(change: str) -> None:
    world, job = at_work()
    end_stage(world, job, code=143, message="")
    pod = world.pods[f"{job.name}-pod"]
    words = {"disruption": "drained", "node_lost": "node pc"}
    changed = replace(pod, deleting=change == "deleting")
    changed = replace(changed, disruption=words["disruption"] if change == "disruption" else "")
    world.pods[pod.name] = replace(changed, node_lost=words["node_lost"] if change == "node_lost" else "")
    world.pass_time(GRACE_SECONDS)
    world.settle()
    assert world.stage(Stage.TRAIN).phase is StagePhase.RUNNING
    assert job.name in world.jobs


def test_a_pod_of_the_stage_alone_is_left_to_its_job() -> None:
    world, job = at_work()
    world.pod_of(job, exit_code=0, termination_message=success(Stage.TRAIN, 1), finished=world.now - timedelta(hours=1))
    world.settle()
    assert world.stage(Stage.TRAIN).phase is StagePhase.RUNNING


def test_the_end_of_the_last_stage_ends_the_run() -> None:
    world = World()
    world.to_stage(Stage.PUBLISH)
    job = world.start()
    end_stage(world, job, code=0, message=success(Stage.PUBLISH, 1))
    world.pass_time(GRACE_SECONDS)
    world.settle()
    assert world.read().phase is Phase.SUCCEEDED
    assert job.name not in world.jobs
