"""Stages that share a Job: its pod runs one after the other, and the status still tells of each by itself."""

from dataclasses import replace
from typing import Any

import pytest

from atoll_contract.errors import ExitCode, Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.model import AttemptNumber, CompileChoice, JobState, JobView, PodPhase
from atoll_operator.lifecycle.transition import stage_views
from support.run_simulation import PROFILE, RunSimulation, failure, run_view, success

RETRAINING, PUBLISHING = "note-train-1-0123abcd", "note-compile-1-0123abcd"


def at(stage: Stage, **changes: Any) -> RunSimulation:
    """A run in which this stage's container runs."""
    sim = RunSimulation(run=run_view(**changes))
    sim.to_stage(stage)
    sim.start()
    sim.settle()
    return sim


def test_a_run_has_three_jobs() -> None:
    sim = RunSimulation()
    sim.finish()
    assert list(sim.created) == ["note-convert-1-0123abcd", RETRAINING, PUBLISHING]
    assert [item.attempts for item in sim.read().stages] == [1] * 5
    assert sim.read().phase is Phase.SUCCEEDED


def test_without_a_compiler_publish_has_a_job_of_its_own() -> None:
    sim = RunSimulation(run=run_view(profile=replace(PROFILE, has_compiler=False)))
    sim.finish()
    assert list(sim.created)[2:] == ["note-publish-1-0123abcd"]


def test_publish_shares_no_pod_where_it_has_a_service_account_of_its_own() -> None:
    sim = RunSimulation(run=run_view(profile=replace(PROFILE, has_publish_service_account=True)))
    sim.finish()
    assert list(sim.created)[2:] == [PUBLISHING, "note-publish-1-0123abcd"]
    assert not any(sim.requests[name].following for name in list(sim.created)[2:])


def test_a_stage_begins_when_the_one_before_it_in_the_pod_ends() -> None:
    sim = at(Stage.TRAIN)
    assert (sim.stage(Stage.EXPORT).phase, sim.stage(Stage.EXPORT).attempts) == (StagePhase.PENDING, 0)
    sim.pass_time(36_000)
    sim.succeed()
    sim.settle()
    train, export = sim.stage(Stage.TRAIN), sim.stage(Stage.EXPORT)
    assert (train.phase, export.phase, export.attempts) == (StagePhase.SUCCEEDED, StagePhase.RUNNING, 1)
    assert export.job_ref == train.job_ref
    # The ten hours of training are no time in which export has waited for its pod.
    assert export.start_time == export.pending_since == train.completion_time
    assert sim.read().phase is Phase.EXPORTING


def test_the_end_of_a_job_records_all_of_its_stages_in_one_write() -> None:
    sim = at(Stage.TRAIN)
    sim.succeed()
    sim.succeed()
    before = sim.writes
    sim.reconcile()
    assert sim.writes == before + 1
    assert {sim.stage(stage).phase for stage in (Stage.TRAIN, Stage.EXPORT)} == {StagePhase.SUCCEEDED}


def test_where_the_first_stage_fails_the_next_was_never_begun() -> None:
    sim = at(Stage.TRAIN)
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    export = sim.stage(Stage.EXPORT)
    assert (export.phase, export.attempts, export.job_ref) == (StagePhase.PENDING, 0, None)
    sim.pass_time(300)
    sim.settle()
    assert sim.requests["note-train-2-0123abcd"].following == (AttemptNumber(Stage.EXPORT, 1),)
    sim.finish()
    assert [item.attempts for item in sim.read().stages] == [1, 2, 1, 1, 1]


def test_where_the_second_stage_fails_the_next_job_has_it_alone() -> None:
    sim = at(Stage.EXPORT)
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    sim.pass_time(300)
    sim.settle()
    request = sim.requests["note-export-2-0123abcd"]
    assert (request.following, set(request.upstream)) == ((), {Stage.CONVERT, Stage.TRAIN})
    sim.finish()
    assert [item.attempts for item in sim.read().stages] == [1, 1, 2, 1, 1]


def test_a_job_that_failed_in_its_second_stage_before_anybody_read_it() -> None:
    sim = at(Stage.TRAIN)
    sim.succeed()
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.QUALITY_GATE_FAILED)


@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.EXPORT])
def test_cancel_deletes_the_job_in_either_half(stage: Stage) -> None:
    sim = at(stage)
    sim.run = replace(sim.run, cancel=True)
    sim.settle()
    assert RETRAINING not in sim.jobs
    assert sim.read().phase is Phase.CANCELLED
    assert sim.stage(stage).reason is Reason.CANCELLED


def test_suspended_in_the_first_half_a_run_goes_on_with_both_stages() -> None:
    sim = at(Stage.TRAIN)
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    assert RETRAINING not in sim.jobs
    sim.run = replace(sim.run, suspend=False)
    sim.settle()
    assert sim.requests["note-train-2-0123abcd"].following == (AttemptNumber(Stage.EXPORT, 1),)


def test_suspended_in_the_second_half_a_run_goes_on_with_the_second_stage() -> None:
    sim = at(Stage.EXPORT)
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    sim.run = replace(sim.run, suspend=False)
    sim.settle()
    assert sim.active_job() is not None
    assert "note-export-2-0123abcd" in sim.jobs
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED


def test_a_pod_that_was_disrupted_between_its_stages_is_replaced_within_the_job() -> None:
    sim = at(Stage.EXPORT)
    job = sim.active_job()
    assert job is not None
    for key, pod in list(sim.pods.items()):
        sim.pods[f"old-{key}"] = replace(pod, name="old", uid="old", disruption="drained")
    sim.pods[f"old-{job.name}-pod-export"] = replace(
        sim.pods[f"old-{job.name}-pod-export"], phase=PodPhase.FAILED, exit_code=143
    )
    sim.pass_time(60)
    train = replace(job, stage=Stage.TRAIN)
    sim.pod_of(train, created=sim.now, phase=PodPhase.RUNNING, exit_code=None, termination_message="", finished=None)
    sim.pod_of(job, created=sim.now, phase=PodPhase.PENDING, started=None)
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED
    assert (sim.stage(Stage.EXPORT).phase, sim.stage(Stage.EXPORT).attempts) == (StagePhase.RUNNING, 1)
    adopted = success(Stage.TRAIN, 1, reason=Reason.ADOPTED)
    sim.pod_of(train, phase=PodPhase.SUCCEEDED, exit_code=0, termination_message=adopted, finished=sim.now)
    sim.finish()
    assert [item.attempts for item in sim.read().stages] == [1] * 5


def test_a_disruption_before_the_first_success_is_read_loses_nothing() -> None:
    sim = at(Stage.TRAIN)
    job = sim.succeed()
    sim.pod_of(job, disruption="drained")
    sim.pods[f"{job.name}-pod-export"] = replace(sim.pods[f"{job.name}-pod-export"], disruption="drained")
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED


@pytest.mark.parametrize("first", [Stage.TRAIN, Stage.COMPILE])
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_an_eviction_between_its_containers_leaves_the_first_stage_done(first: Stage, seen: bool) -> None:
    sim = at(first)
    sim.succeed()
    if seen:
        sim.settle()
    job = sim.active_job()
    assert job is not None
    # The second container never began.
    sim.pod_of(job, phase=PodPhase.FAILED, reason="Evicted", message="The node was low on resource: memory.")
    sim.jobs[job.name] = replace(sim.jobs[job.name], state=JobState.FAILED, finished=sim.now)
    sim.settle()
    second = sim.stage(job.stage)
    assert (sim.stage(first).phase, sim.stage(first).attempts) == (StagePhase.SUCCEEDED, 1)
    assert second.last_failure is not None
    assert (second.phase, second.last_failure.reason) == (StagePhase.PENDING, Reason.EVICTED)
    sim.pass_time(300)
    sim.settle()
    request = sim.requests[f"note-{second.name}-2-0123abcd"]
    assert request.following == ()
    sim.finish()
    assert (sim.read().phase, sim.stage(first).attempts, sim.stage(second.name).attempts) == (Phase.SUCCEEDED, 1, 2)
    assert sim.published == {1}


def test_a_job_that_is_deleted_by_somebody_in_its_second_half() -> None:
    sim = at(Stage.EXPORT)
    sim.remove_job(RETRAINING)
    sim.settle()
    assert sim.stage(Stage.EXPORT).last_failure.reason is Reason.JOB_DELETED_EXTERNALLY
    sim.pass_time(300)
    sim.settle()
    assert "note-export-2-0123abcd" in sim.jobs


def test_an_image_that_cannot_be_pulled_is_told_of_its_own_stage() -> None:
    sim = at(Stage.TRAIN)
    job = sim.succeed()
    sim.pod_of(replace(job, stage=Stage.EXPORT), waiting_reason="ErrImagePull", waiting_message="no such image")
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED
    assert sim.stage(Stage.EXPORT).reason is Reason.IMAGE_PULL_FAILED
    sim.pass_time(PROFILE.pending_seconds)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.IMAGE_PULL_FAILED)
    assert RETRAINING not in sim.jobs


def test_a_refused_result_ends_the_stage_that_runs_after_it() -> None:
    sim = at(Stage.TRAIN)
    forged = success(Stage.TRAIN, 1).replace("runs/team/", "runs/other/")
    sim.succeed(forged)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.INTEGRITY_MISMATCH)
    assert RETRAINING not in sim.jobs


def test_a_lost_result_ends_the_stage_that_runs_after_it_and_is_looked_up() -> None:
    sim = at(Stage.TRAIN)
    sim.succeed("")
    sim.settle()
    assert RETRAINING not in sim.jobs
    assert sim.stage(Stage.TRAIN).last_failure.reason is Reason.RESULT_MISSING
    sim.pass_time(300)
    sim.finish()
    assert [item.attempts for item in sim.read().stages] == [1, 2, 1, 1, 1]


def test_an_image_that_knows_no_results_within_the_pod_is_tried_again_by_itself() -> None:
    sim = at(Stage.EXPORT, backoff_limit=0)
    sim.fail(Reason.INVALID_SPEC)
    sim.settle()
    sim.pass_time(300)
    sim.settle()
    assert sim.stage(Stage.EXPORT).failures == 0
    # Given everything, the same answer is final.
    sim.fail(Reason.INVALID_SPEC)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.INVALID_SPEC)


def test_a_deadline_of_the_job_ends_the_stage_at_work() -> None:
    sim = at(Stage.EXPORT)
    ended: dict[str, Any] = {"state": JobState.FAILED, "finished": sim.now, "failure_reason": "DeadlineExceeded"}
    sim.jobs[RETRAINING] = replace(sim.jobs[RETRAINING], **ended)
    sim.pods.clear()
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.SUCCEEDED
    assert sim.stage(Stage.EXPORT).reason is Reason.DEADLINE_EXCEEDED


def test_a_compile_that_cannot_end_well_leaves_publish_a_job_of_its_own() -> None:
    sim = at(Stage.COMPILE)
    sim.fail(Reason.OUT_OF_MEMORY)
    sim.settle()
    assert sim.stage(Stage.COMPILE).phase is StagePhase.SKIPPED
    assert "note-publish-1-0123abcd" in sim.jobs
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert set(sim.releases) == {1}


def test_a_required_compile_that_fails_publishes_nothing() -> None:
    sim = at(Stage.COMPILE, compile=(CompileChoice("edgetpu", CompilePolicy.REQUIRED),))
    sim.fail(Reason.COMPILE_FAILED)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert (sim.stage(Stage.PUBLISH).attempts, sim.published) == (0, set())


def test_after_a_version_conflict_publish_is_alone_with_the_next_version() -> None:
    sim = at(Stage.PUBLISH)
    message = failure(Stage.PUBLISH, 1, Reason.VERSION_CONFLICT, {"nextVersion": 8})
    sim.fail(Reason.VERSION_CONFLICT, message=message)
    sim.settle()
    sim.pass_time(300)
    sim.settle()
    request = sim.requests["note-publish-2-0123abcd"]
    assert (request.version, request.following, Stage.COMPILE in request.upstream) == (8, (), True)


def test_a_retry_from_train_has_both_stages_again() -> None:
    sim = at(Stage.EXPORT)
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    sim.run = replace(sim.run, retry="again:train")
    sim.settle()
    assert sim.requests["note-train-2-0123abcd"].following == (AttemptNumber(Stage.EXPORT, 2, adopt_from=2),)


def test_each_stage_has_the_seconds_of_its_own_container() -> None:
    sim = at(Stage.TRAIN)
    sim.pass_time(100)
    sim.succeed()
    sim.start()
    sim.pass_time(20)
    sim.succeed()
    sim.settle()
    assert (sim.stage(Stage.TRAIN).pod_seconds, sim.stage(Stage.EXPORT).pod_seconds) == (100, 20)


def test_the_status_alone_tells_which_stage_a_job_without_pods_is_at() -> None:
    sim = at(Stage.EXPORT)
    job = sim.jobs[RETRAINING]
    stages = [view.stage for view in stage_views(job, (), sim.read())]
    assert stages == [Stage.TRAIN, Stage.EXPORT]
    assert [view.stage for view in stage_views(job, (), None)] == [Stage.TRAIN]


def test_an_earlier_job_says_nothing_of_a_success_that_another_had() -> None:
    sim = at(Stage.TRAIN)
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    sim.pass_time(300)
    sim.settle()
    sim.succeed()
    sim.settle()
    sim.pods = {key: pod for key, pod in sim.pods.items() if pod.job != RETRAINING}
    views = stage_views(sim.jobs[RETRAINING], tuple(sim.pods.values()), sim.read())
    assert [(view.stage, view.state) for view in views] == [(Stage.TRAIN, JobState.FAILED)]
    assert sim.stage(Stage.EXPORT).phase is StagePhase.RUNNING


def test_a_run_of_five_jobs_goes_on_with_one_version() -> None:
    sim = at(Stage.TRAIN)
    # An earlier version made a Job for this stage alone.
    sim.jobs = {name: replace(job, following=()) for name, job in sim.jobs.items()}
    sim.pods = {key: replace(pod, stage=None) for key, pod in sim.pods.items()}
    job = sim.jobs[RETRAINING]
    ended: dict[str, Any] = {
        "phase": PodPhase.SUCCEEDED,
        "exit_code": 0,
        "termination_message": success(Stage.TRAIN, 1),
    }
    sim.pods = {key: replace(pod, **ended) if pod.job == job.name else pod for key, pod in sim.pods.items()}
    sim.jobs[job.name] = replace(job, state=JobState.SUCCEEDED, finished=sim.now)
    sim.settle()
    assert "note-export-1-0123abcd" in sim.jobs
    sim.finish()
    assert (sim.read().phase, set(sim.releases)) == (Phase.SUCCEEDED, {1})


def test_a_job_of_another_owner_counts_for_none_of_its_stages() -> None:
    sim = at(Stage.TRAIN)
    sim.succeed()
    foreign: JobView = replace(sim.jobs[RETRAINING], owner_uid="somebody")
    plan = decide(sim.view(), [foreign], sim.pods.values(), sim.now)
    assert plan.status.reason is Reason.JOB_NAME_CONFLICT


@pytest.mark.parametrize("before", ["", "suspended"])
def test_a_run_that_is_cancelled_in_compile_finds_out_whether_publish_began_unseen(before: str) -> None:
    sim = at(Stage.COMPILE)
    if before:
        sim.run = replace(sim.run, suspend=True)
        sim.settle()
    sim.run = replace(sim.run, cancel=True)
    sim.settle()
    request = sim.requests["note-publish-2-0123abcd"]
    assert (request.adopt_only, request.version, sim.read().is_terminal) == (True, 1, False)
    sim.succeed()
    sim.settle()
    assert (sim.read().phase, sim.published) == (Phase.SUCCEEDED, {1})


def test_publish_that_had_begun_unseen_before_a_suspension_is_another_attempt_later() -> None:
    sim = at(Stage.COMPILE)
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    sim.run = replace(sim.run, suspend=False)
    sim.settle()
    assert sim.requests["note-compile-2-0123abcd"].following == (AttemptNumber(Stage.PUBLISH, 2),)
    sim.finish()
    assert (sim.read().phase, set(sim.releases)) == (Phase.SUCCEEDED, {1})


def test_the_job_of_compile_and_publish_stays_until_its_pod_is_gone() -> None:
    sim = at(Stage.COMPILE)
    sim.run = replace(sim.run, cancel=True)
    plan = sim.decide()
    assert [(item.name, item.with_pods) for item in plan.delete] == [(PUBLISHING, True)]


def test_a_retry_from_train_that_is_cancelled_in_training_ends_at_once() -> None:
    sim = at(Stage.PUBLISH)
    sim.fail(Reason.INTEGRITY_MISMATCH)
    sim.settle()
    sim.fail(Reason.CANCELLED, code=ExitCode.INTERNAL_ERROR)
    sim.settle()
    sim.run = replace(sim.run, retry="again:train")
    sim.to_stage(Stage.TRAIN)
    sim.run = replace(sim.run, cancel=True)
    sim.settle()
    assert sim.read().phase is Phase.CANCELLED
