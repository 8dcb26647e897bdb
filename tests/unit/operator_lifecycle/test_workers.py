"""A training with several workers: they are decided on as one, and one that is lost is a new attempt of all."""

from dataclasses import replace
from typing import Any

import pytest

from atoll_contract.errors import Reason, exit_code
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import StagePhase
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView
from support.run_simulation import RunSimulation, failure, run_view, success


@pytest.fixture
def sim() -> RunSimulation:
    """A run whose training has three workers, with the Job of its first attempt."""
    made = RunSimulation(run=run_view(workers=3))
    made.to_stage(Stage.TRAIN)
    made.settle()
    return made


def job_of(sim: RunSimulation) -> JobView:
    job = sim.active_job()
    assert job is not None
    assert job.stage is Stage.TRAIN
    return job


def put(sim: RunSimulation, worker: int, phase: PodPhase = PodPhase.RUNNING, **changes: Any) -> PodView:
    job = job_of(sim) if sim.active_job() else max(sim.jobs.values(), key=lambda item: item.attempt)
    name = f"{job.name}-{worker}-x"
    started = None if phase is PodPhase.PENDING else sim.now
    base = PodView(name, f"uid-{name}", job.name, phase, sim.now, stage=Stage.TRAIN, started=started, index=worker)
    sim.pods[name] = replace(base, **changes)
    return sim.pods[name]


def end(sim: RunSimulation, worker: int, reason: Reason, **changes: Any) -> None:
    code = int(exit_code(reason))
    message = failure(Stage.TRAIN, 1, reason)
    phase = PodPhase.FAILED if code else PodPhase.SUCCEEDED
    put(sim, worker, phase, **{"finished": sim.now, "exit_code": code, "termination_message": message} | changes)


def end_job(sim: RunSimulation, state: JobState = JobState.FAILED, **changes: Any) -> None:
    job = job_of(sim)
    sim.jobs[job.name] = replace(job, state=state, finished=sim.now, **changes)


def test_training_with_workers_shares_its_pod_with_no_other_stage(sim: RunSimulation) -> None:
    assert job_of(sim).following == ()
    for worker in range(3):
        put(sim, worker)
    end(sim, 0, Reason.COMPLETED, termination_message=success(Stage.TRAIN, 1))
    end_job(sim, JobState.SUCCEEDED)
    sim.settle()
    export = sim.active_job()
    assert export is not None
    assert export.stage is Stage.EXPORT


def test_it_runs_when_all_workers_run_and_the_first_ones_progress_counts(sim: RunSimulation) -> None:
    put(sim, 0, progress=Progress(50.0, step=5, total_steps=10))
    put(sim, 1)
    sim.settle()
    assert "is starting" in sim.stage(Stage.TRAIN).message
    progress = sim.read().progress
    assert progress is None or progress.step is None
    put(sim, 2, progress=Progress(10.0, step=1, total_steps=10))
    sim.settle()
    assert sim.stage(Stage.TRAIN).message == "attempt 1 is running"
    progress = sim.read().progress
    assert progress is not None
    assert progress.step == 5


def test_trouble_of_any_worker_is_that_of_the_stage(sim: RunSimulation) -> None:
    put(sim, 0)
    put(sim, 1)
    put(sim, 2, PodPhase.PENDING, unschedulable="0/2 nodes are available: 2 Insufficient cpu")
    sim.settle()
    assert sim.stage(Stage.TRAIN).reason is Reason.UNSCHEDULABLE
    sim.pass_time(2000)
    sim.settle()
    assert sim.read().reason is Reason.UNSCHEDULABLE
    assert not sim.jobs or all(job.is_finished for job in sim.jobs.values())


def test_a_worker_on_a_lost_node_is_waited_for(sim: RunSimulation) -> None:
    put(sim, 0)
    put(sim, 1, node_lost="node n2: its kubelet does not answer")
    put(sim, 2)
    sim.settle()
    assert sim.stage(Stage.TRAIN).reason is Reason.NODE_LOST


def test_the_success_is_that_of_the_first_worker(sim: RunSimulation) -> None:
    end(sim, 1, Reason.COMPLETED)
    end(sim, 0, Reason.COMPLETED, termination_message=success(Stage.TRAIN, 1))
    end_job(sim, JobState.SUCCEEDED)
    sim.settle()
    stage = sim.stage(Stage.TRAIN)
    assert stage.phase is StagePhase.SUCCEEDED
    assert [item.name for item in stage.outputs] == ["weights"]


def test_a_success_whose_first_pod_is_gone_is_that_of_no_other_worker_and_is_looked_up(sim: RunSimulation) -> None:
    for worker in range(3):
        put(sim, worker)
    end(sim, 1, Reason.COMPLETED, termination_message=success(Stage.TRAIN, 1))
    end(sim, 2, Reason.PEER_LOST)
    del sim.pods[f"{job_of(sim).name}-0-x"]
    end_job(sim, JobState.SUCCEEDED)
    sim.settle()
    stage = sim.stage(Stage.TRAIN)
    assert stage.last_failure is not None
    assert (stage.phase, stage.last_failure.reason, stage.failures) == (StagePhase.PENDING, Reason.RESULT_MISSING, 0)


@pytest.mark.parametrize("cause", [0, 2])
def test_the_cause_is_named_and_not_the_loss_that_the_others_saw(sim: RunSimulation, cause: int) -> None:
    for worker in {0, 1, 2} - {cause}:
        end(sim, worker, Reason.PEER_LOST)
    end(sim, cause, Reason.STORAGE_FORBIDDEN)
    end_job(sim, failure_reason="BackoffLimitExceeded")
    sim.settle()
    assert sim.read().reason is Reason.STORAGE_FORBIDDEN


def test_a_worker_without_a_word_comes_before_the_loss_that_the_others_saw(sim: RunSimulation) -> None:
    end(sim, 0, Reason.PEER_LOST)
    end(sim, 1, Reason.OUT_OF_MEMORY, terminated_reason="OOMKilled", exit_code=137, termination_message="")
    end_job(sim, failure_reason="BackoffLimitExceeded")
    sim.settle()
    assert sim.read().reason is Reason.OUT_OF_MEMORY


def test_a_loss_alone_is_tried_again_and_counts(sim: RunSimulation) -> None:
    end(sim, 0, Reason.PEER_LOST)
    end_job(sim, failure_reason="BackoffLimitExceeded")
    sim.settle()
    stage = sim.stage(Stage.TRAIN)
    assert (stage.last_failure.reason, stage.last_failure.exit_code, stage.failures) == (Reason.PEER_LOST, 33, 1)
    sim.pass_time(60)
    sim.settle()
    assert job_of(sim).attempt == 2


def test_a_worker_that_is_asked_to_end_is_an_attempt_that_does_not_count(sim: RunSimulation) -> None:
    for worker in range(3):
        end(sim, worker, Reason.SUSPENDED)
    end_job(sim, failure_reason="BackoffLimitExceeded")
    sim.settle()
    assert sim.stage(Stage.TRAIN).failures == 0


def test_O40_a_drained_worker_is_a_new_attempt_of_all_that_does_not_count(sim: RunSimulation) -> None:
    """Its pod is gone before anybody reads it; the Job's condition says why."""
    text = "Pod team/x-1-abc has condition DisruptionTarget matching FailJob rule at index 0"
    end_job(sim, failure_reason="PodFailurePolicy", failure_message=text)
    sim.settle()
    stage = sim.stage(Stage.TRAIN)
    assert (stage.last_failure.reason, stage.failures) == (Reason.EVICTED, 0)
    assert "drain or preemption" in stage.last_failure.message
    sim.pass_time(60)
    sim.settle()
    assert job_of(sim).attempt == 2


def test_the_seconds_of_all_workers_are_counted(sim: RunSimulation) -> None:
    for worker in range(3):
        put(sim, worker)
    sim.settle()
    began = sim.now
    sim.pass_time(100)
    end(sim, 1, Reason.COMPLETED, started=began)
    end(sim, 2, Reason.COMPLETED, started=began)
    end(sim, 0, Reason.COMPLETED, started=began, termination_message=success(Stage.TRAIN, 1))
    end_job(sim, JobState.SUCCEEDED)
    sim.settle()
    assert sim.stage(Stage.TRAIN).pod_seconds == 300
