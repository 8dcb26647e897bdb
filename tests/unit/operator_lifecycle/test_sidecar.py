"""A sidecar that somebody put into a stage's pod does not stop the run (fault P15)."""

from datetime import timedelta
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.lifecycle.decide import SIDECAR_GRACE_SECONDS
from atoll_operator.lifecycle.model import JobView, PodPhase
from support.run_simulation import RunSimulation, failure, success


def running_export_stage() -> tuple[RunSimulation, JobView]:
    sim = RunSimulation()
    sim.to_stage(Stage.EXPORT)
    job = sim.start()
    sim.settle()
    return sim, job


def end_stage(sim: RunSimulation, job: JobView, *, code: int, message: str) -> None:
    """The stage's container ends; a sidecar keeps pod and Job running."""
    sim.pod_of(
        job,
        phase=PodPhase.RUNNING,
        exit_code=code,
        termination_message=message,
        finished=sim.now,
        kept_by_another=True,
    )


def test_a_success_is_recorded_before_the_job_is_deleted() -> None:
    sim, job = running_export_stage()
    end_stage(sim, job, code=0, message=success(Stage.EXPORT, 1))
    sim.settle()
    assert sim.stage(Stage.EXPORT).phase is StagePhase.RUNNING
    sim.pass_time(SIDECAR_GRACE_SECONDS)
    plan = sim.reconcile(crash_before="delete")
    assert sim.stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED
    assert [item.name for item in plan.delete] == [job.name]
    # The operator died before it deleted the Job: the next reconcile deletes it.
    sim.settle()
    assert job.name not in sim.jobs
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.created[job.name] == 1


def test_a_failure_is_recorded_and_retried() -> None:
    sim, job = running_export_stage()
    end_stage(sim, job, code=1, message=failure(Stage.EXPORT, 1, Reason.INTERNAL_ERROR))
    sim.pass_time(SIDECAR_GRACE_SECONDS)
    sim.settle()
    export = sim.stage(Stage.EXPORT)
    assert (export.phase, export.failures, export.last_failure.reason) == (StagePhase.PENDING, 1, Reason.INTERNAL_ERROR)
    assert job.name not in sim.jobs
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("change", ["deleting", "disruption", "node_lost"])
def test_a_pod_that_is_being_removed_is_left_to_the_job_controller(change: str) -> None:
    sim, job = running_export_stage()
    end_stage(sim, job, code=143, message="")
    changes: dict[str, Any] = {"deleting": True, "disruption": "drained", "node_lost": "node pc"}
    sim.pod_of(job, **{change: changes[change]})
    sim.pass_time(SIDECAR_GRACE_SECONDS)
    sim.settle()
    assert sim.stage(Stage.EXPORT).phase is StagePhase.RUNNING
    assert job.name in sim.jobs


def test_a_pod_without_a_sidecar_is_left_to_the_job_controller() -> None:
    sim, job = running_export_stage()
    sim.pod_of(job, exit_code=0, termination_message=success(Stage.EXPORT, 1), finished=sim.now - timedelta(hours=1))
    sim.settle()
    assert sim.stage(Stage.EXPORT).phase is StagePhase.RUNNING


def test_the_success_of_the_last_stage_ends_the_run() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.PUBLISH)
    job = sim.start()
    end_stage(sim, job, code=0, message=success(Stage.PUBLISH, 1))
    sim.pass_time(SIDECAR_GRACE_SECONDS)
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED
    assert job.name not in sim.jobs
