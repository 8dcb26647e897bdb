"""A Job that is held uses none of its run's time: by its queue (Kueue suspends it), or by a run that has the GPU."""

from datetime import timedelta

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.lifecycle.model import JobState, PodPhase, QueueView
from support.run_simulation import RunSimulation, run_view

DAY_AND_MORE = 25 * 3600


def hold(sim: RunSimulation, kind: str) -> None:
    job = sim.active_job()
    assert job is not None
    if kind == "queue":
        sim.jobs[job.name] = replace(job, state=JobState.SUSPENDED)
        sim.pods = {name: pod for name, pod in sim.pods.items() if pod.job != job.name}
    else:
        sim.run = replace(sim.run, queue=QueueView(others_active=True))
        sim.pod_of(job, unschedulable="0/1 nodes are available: 1 Insufficient nvidia.com/gpu")


def release(sim: RunSimulation) -> None:
    job = sim.active_job()
    assert job is not None
    sim.jobs[job.name] = replace(job, state=JobState.ACTIVE)
    sim.run = replace(sim.run, queue=QueueView())
    sim.pod_of(job, unschedulable="", phase=PodPhase.RUNNING, started=sim.now)


@pytest.mark.parametrize("kind", ["queue", "gpu"])
@pytest.mark.parametrize("stage", list(Stage))
def test_O33_a_run_whose_job_was_held_for_25_hours_succeeds(kind: str, stage: Stage) -> None:
    sim = RunSimulation()
    sim.to_stage(stage)
    sim.pass_time(60)
    hold(sim, kind)
    plan = sim.settle()
    assert sim.read().held_since is not None
    # An event says that the queue has resumed the Job; a pod that waits is read again and again.
    assert (plan.requeue_after is None) is (kind == "queue")
    for _ in range(25):
        sim.pass_time(DAY_AND_MORE / 25)
        sim.settle()
        assert sim.read().reason in (Reason.QUEUED, Reason.UNSCHEDULABLE), sim.read().message
    release(sim)
    sim.settle()
    assert (sim.read().held_since, sim.read().reason) == (None, Reason.RUNNING)
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.read().active_seconds == 60
    assert set(sim.created.values()) == {1}


@pytest.mark.parametrize("kind", ["queue", "gpu"])
def test_O33_after_the_hold_the_deadline_goes_on_where_it_stood(kind: str) -> None:
    sim = RunSimulation(run=run_view(active_deadline_seconds=600))
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.settle()
    sim.pass_time(400)
    hold(sim, kind)
    if kind == "gpu":
        job = sim.active_job()
        assert job is not None
        sim.pod_of(job, phase=PodPhase.PENDING, started=None)
    sim.settle()
    sim.pass_time(DAY_AND_MORE)
    sim.settle()
    release(sim)
    sim.pass_time(199)
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    sim.pass_time(2)
    sim.settle()
    assert sim.read().reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("hours", [3, 30])
def test_O33_the_clock_goes_on_with_the_pod_even_where_nobody_looked(hours: int) -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    hold(sim, "queue")
    sim.settle()
    sim.pass_time(DAY_AND_MORE)
    release(sim)
    sim.pass_time(hours * 3600)
    sim.settle()
    if hours > 24:
        assert sim.read().reason is Reason.DEADLINE_EXCEEDED
        return
    assert sim.read().active_since == (sim.now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_O33_suspension_by_the_user_and_the_end_close_a_hold() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.pass_time(100)
    hold(sim, "queue")
    sim.settle()
    sim.pass_time(DAY_AND_MORE)
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    status = sim.read()
    assert (status.phase, status.active_seconds, status.held_since) == (Phase.SUSPENDED, 100, None)
    sim.run = replace(sim.run, suspend=False)
    sim.settle()
    hold(sim, "queue")
    sim.settle()
    sim.pass_time(DAY_AND_MORE)
    sim.run = replace(sim.run, cancel=True)
    sim.settle()
    status = sim.read()
    assert (status.phase, status.active_seconds, status.held_since) == (Phase.CANCELLED, 100, None)


def test_O33_a_held_job_that_its_own_deadline_ended_is_followed_by_another() -> None:
    """Kubernetes begins the deadline of a suspended Job anew; that of a Job whose pod finds no node runs on."""
    sim = RunSimulation(run=run_view(backoff_limit=0))
    sim.to_stage(Stage.TRAIN)
    hold(sim, "gpu")
    sim.settle()
    job = sim.active_job()
    assert job is not None
    sim.pass_time(sim.requests[job.name].active_deadline_seconds + 1)
    sim.jobs[job.name] = replace(
        job, state=JobState.FAILED, finished=sim.now, failure_reason="DeadlineExceeded", failure_message="too long"
    )
    sim.pods.clear()
    sim.settle()
    sim.pass_time(60)
    sim.settle()
    assert (sim.stage(Stage.TRAIN).attempts, sim.stage(Stage.TRAIN).failures) == (2, 0)
    release(sim)
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
