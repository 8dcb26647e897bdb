"""decide: the life of a run from acceptance to its end."""

from typing import Any

import pytest

from atoll_contract.document import replace, to_json
from atoll_contract.errors import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import MAX_STATUS_BYTES, Phase, StagePhase
from atoll_operator.api.status_codec import merge_patch
from atoll_operator.lifecycle.model import AttemptNumber, CompileChoice, PodPhase, QueueView
from support.run_simulation import SHA, RunSimulation, run_view


def test_a_run_without_failures_succeeds() -> None:
    sim = RunSimulation()
    sim.finish()
    status = sim.read()
    assert status.phase is Phase.SUCCEEDED
    assert status.summary.release == "note-v1"
    assert status.summary.ap50 == "0.88"
    assert status.summary.tpu == "98%"
    assert status.dataset is not None
    assert status.dataset.pictures == 110
    assert [item.phase for item in status.stages] == [StagePhase.SUCCEEDED] * 5
    assert sim.published == {1}
    assert status.progress is not None
    assert status.progress.display == "100%"
    assert {item.type: item.status for item in status.conditions} == {
        "Succeeded": "True",
        "DatasetValid": "True",
        "QualityPassed": "True",
        "Published": "True",
    }


def test_the_first_status_is_complete() -> None:
    sim = RunSimulation()
    sim.reconcile()
    first = sim.history[0]
    assert first["observedGeneration"] == 1
    assert first["phase"] == "Converting"
    assert {item["type"] for item in first["conditions"]} == {
        "Succeeded",
        "Reconciling",
        "DatasetValid",
        "QualityPassed",
        "Published",
    }
    assert len(first["stages"]) == 5


def test_a_run_takes_few_writes() -> None:
    sim = RunSimulation()
    sim.finish()
    creations = sum(sim.created.values())
    assert creations == 3
    # Two statuses a Job and one for each stage that ends within it, the release and its status.
    assert sim.writes + creations + 2 <= 16


def test_each_stage_gets_the_outputs_of_the_earlier_ones() -> None:
    sim = RunSimulation()
    sim.finish()
    last = next(request for request in sim.requests.values() if request.stage is Stage.COMPILE)
    # Publish gets those of compile within the pod.
    assert last.following == (AttemptNumber(Stage.PUBLISH, 1),)
    assert set(last.upstream) == {Stage.CONVERT, Stage.TRAIN, Stage.EXPORT}
    assert last.upstream[Stage.EXPORT][0].sha256 == SHA
    assert last.version == 1


def test_the_status_announces_an_attempt_before_its_job_exists() -> None:
    sim = RunSimulation()
    plan = sim.decide()
    assert [item.stage for item in plan.create] == [Stage.CONVERT]
    assert plan.status.stage(Stage.CONVERT).attempts == 1
    assert plan.status.stage(Stage.CONVERT).job_ref is None


def test_a_lost_creation_is_made_again_under_the_same_name() -> None:
    sim = RunSimulation()
    sim.reconcile(crash_before="create")
    sim.settle()
    assert sim.created == {"note-convert-1-0123abcd": 1}


def test_a_suspended_run_says_why_in_the_words_of_who_suspended_it() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.run = replace(sim.run, suspend=True, suspend_reason="waits at step 300 of 900", generation=2)
    sim.settle()
    assert sim.read().message == "waits at step 300 of 900"
    # Its annotation alone may change.
    sim.run = replace(sim.run, suspend_reason="waits for a place")
    sim.settle()
    assert sim.read().message == "waits for a place"
    sim.run = replace(sim.run, suspend_reason="")
    sim.settle()
    assert sim.read().message == "suspended; resumed, it goes on from its last checkpoint"


def test_suspension_stops_the_clock_and_costs_no_attempt() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.pass_time(100)
    sim.settle()
    sim.run = replace(sim.run, suspend=True, generation=2)
    sim.settle()
    assert sim.read().phase is Phase.SUSPENDED
    assert sim.active_job() is None
    assert sim.read().active_seconds == 100
    sim.pass_time(10_000)
    sim.run = replace(sim.run, suspend=False, generation=3)
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    assert sim.stage(Stage.TRAIN).attempts == 2
    assert sim.stage(Stage.TRAIN).failures == 0
    sim.finish()
    assert sim.read().active_seconds < 1000


def test_a_deleting_job_of_a_suspended_run_is_waited_for() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.settle()
    sim.run = replace(sim.run, suspend=True)
    sim.reconcile(crash_before="delete")
    sim.jobs[job.name] = replace(job, deleting=True)
    sim.run = replace(sim.run, suspend=False)
    plan = sim.reconcile()
    assert not plan.create
    assert job.name in sim.read().message
    sim.remove_job(job.name)
    sim.settle()
    assert sim.active_job() is not None
    assert sim.stage(Stage.TRAIN).attempts == 2


def test_a_job_that_outlived_a_suspension_takes_no_slot_from_the_others() -> None:
    """The slot went to another run when the suspension was recorded; the Job's deletion failed."""
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.settle()
    sim.run = replace(sim.run, suspend=True)
    sim.reconcile(crash_before="delete")
    assert sim.read().phase is Phase.SUSPENDED
    sim.run = replace(sim.run, suspend=False, queue=QueueView(ahead=2))
    for _ in range(2):
        plan = sim.decide()
        assert [found.name for found in plan.delete] == [job.name]
        assert (plan.status.phase, plan.status.active_since) == (Phase.QUEUED, None)
        sim.reconcile(crash_before="delete")
    sim.settle()
    assert sim.active_job() is None
    sim.run = replace(sim.run, queue=QueueView())
    sim.settle()
    assert sim.stage(Stage.TRAIN).attempts == 2


def test_a_job_at_work_goes_on_where_the_status_was_lost_and_the_queue_is_full() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.start()
    sim.status = None
    sim.run = replace(sim.run, queue=QueueView(ahead=2))
    plan = sim.reconcile()
    assert not plan.delete
    assert sim.read().phase is Phase.CONVERTING
    assert sim.active_job() == job


@pytest.mark.parametrize("stage", list(Stage))
def test_cancel_ends_a_run_in_every_stage(stage: Stage) -> None:
    sim = RunSimulation()
    sim.to_stage(stage)
    sim.settle()
    sim.run = replace(sim.run, cancel=True)
    sim.settle()
    if stage in (Stage.COMPILE, Stage.PUBLISH):
        # An attempt that only looks says that nothing is published.
        sim.fail(Reason.CANCELLED)
        sim.settle()
    assert sim.read().phase is Phase.CANCELLED
    assert sim.read().reason is Reason.CANCELLED
    assert sim.active_job() is None


def test_a_terminal_phase_never_changes() -> None:
    sim = RunSimulation()
    sim.finish()
    before = sim.read()
    sim.run = replace(sim.run, cancel=True, suspend=True, profile=None, missing="gone", retry="again")
    sim.pass_time(500_000)
    sim.settle()
    assert sim.read() == before


def test_the_deadline_ends_a_run_and_its_job() -> None:
    sim = RunSimulation(run=run_view(active_deadline_seconds=600))
    sim.to_stage(Stage.TRAIN)
    sim.start()
    plan = sim.settle()
    assert plan.requeue_after is not None
    assert plan.requeue_after <= 600
    sim.pass_time(601)
    sim.settle()
    assert sim.read().reason is Reason.DEADLINE_EXCEEDED
    assert sim.active_job() is None


def test_a_queued_run_shows_its_position_and_uses_no_active_time() -> None:
    sim = RunSimulation(run=run_view(queue=QueueView(ahead=2, eta_seconds=2100), active_deadline_seconds=600))
    sim.settle()
    assert sim.read().phase is Phase.QUEUED
    assert sim.read().message == "Queued: 2 ahead, about 35 min"
    assert not sim.jobs
    sim.pass_time(50_000)
    sim.run = replace(sim.run, queue=QueueView())
    sim.settle()
    assert sim.read().phase is Phase.CONVERTING
    assert sim.read().queue is None


def test_a_retry_goes_on_from_the_failed_stage_with_the_next_attempt() -> None:
    sim = RunSimulation(run=run_view(backoff_limit=0))
    sim.to_stage(Stage.TRAIN)
    sim.fail(Reason.TRAINING_DIVERGED)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    sim.run = replace(sim.run, retry="2027-01-09T19:00:00Z")
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    assert sim.stage(Stage.TRAIN).attempts == 2
    assert sim.stage(Stage.CONVERT).attempts == 1
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.read().last_handled_retry == "2027-01-09T19:00:00Z"


def test_a_retry_takes_the_profile_as_it_is_now() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.fail(Reason.TRAINING_DIVERGED)
    sim.settle()
    assert sim.run.profile is not None
    corrected = replace(sim.run.profile, digest="sha256:" + "c" * 64, revision="atoll-profile-2")
    sim.run = replace(sim.run, profile=corrected, retry="again")
    plan = sim.reconcile()
    assert plan.status.resolved is None
    assert not plan.create
    assert sim.reconcile().snapshot_profile
    sim.finish()
    resolved = sim.read().resolved
    assert sim.read().phase is Phase.SUCCEEDED
    assert resolved is not None
    assert resolved.profile_revision == "atoll-profile-2"


def test_a_retry_may_name_an_earlier_stage() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.EXPORT)
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    sim.run = replace(sim.run, retry="2027-01-09T19:00:00Z:train")
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    assert sim.stage(Stage.TRAIN).attempts == 2


def request(sim: RunSimulation, stage: Stage) -> AttemptNumber:
    """The newest attempt of the stage."""
    numbers = [number for item in sim.requests.values() for number in item.stages if number.stage is stage]
    return max(numbers, key=lambda number: number.attempt)


def test_O36_a_retry_from_a_named_stage_takes_nothing_over_from_there_on() -> None:
    sim = RunSimulation(run=run_view(backoff_limit=0))
    sim.to_stage(Stage.EXPORT)
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    sim.run = replace(sim.run, retry="one:train")
    sim.to_stage(Stage.EXPORT)
    found = {stage: request(sim, stage) for stage in (Stage.CONVERT, Stage.TRAIN, Stage.EXPORT)}
    assert {stage: (item.attempt, item.adopt_from) for stage, item in found.items()} == {
        Stage.CONVERT: (1, None),
        Stage.TRAIN: (2, 2),
        Stage.EXPORT: (2, 2),
    }
    # What the first attempts left stays out of the question.
    sim.fail(Reason.QUALITY_GATE_FAILED)
    sim.settle()
    sim.run = replace(sim.run, retry="two")
    sim.settle()
    assert (request(sim, Stage.EXPORT).attempt, request(sim, Stage.EXPORT).adopt_from) == (3, 2)
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert request(sim, Stage.PUBLISH).adopt_from is None


@pytest.mark.parametrize("retry", ["again", "again:export", "again:none"])
def test_O36_a_retry_of_the_failed_stage_goes_on_with_what_is_there(retry: str) -> None:
    sim = RunSimulation(run=run_view(backoff_limit=0))
    sim.to_stage(Stage.TRAIN)
    sim.fail(Reason.TRAINING_DIVERGED)
    sim.settle()
    sim.run = replace(sim.run, retry=retry)
    sim.settle()
    assert (request(sim, Stage.TRAIN).attempt, request(sim, Stage.TRAIN).adopt_from) == (2, None)


def test_a_retry_on_an_active_run_has_no_effect_later() -> None:
    sim = RunSimulation(run=run_view(backoff_limit=0))
    sim.settle()
    sim.run = replace(sim.run, retry="now")
    sim.settle()
    sim.fail(Reason.DATASET_UNSAFE)
    sim.settle()
    assert sim.read().phase is Phase.FAILED


def test_ttls_remove_jobs_and_then_the_run() -> None:
    sim = RunSimulation(run=run_view(job_ttl_seconds=60, ttl_seconds=600))
    sim.finish()
    assert len(sim.jobs) == 3
    assert sim.reconcile().requeue_after == 60
    sim.pass_time(61)
    sim.settle()
    assert not sim.jobs
    assert not sim.deleted_run
    sim.pass_time(600)
    sim.reconcile()
    assert sim.deleted_run


def test_without_a_ttl_a_run_is_never_deleted() -> None:
    sim = RunSimulation()
    sim.finish()
    sim.pass_time(10**8)
    sim.reconcile()
    assert not sim.deleted_run


@pytest.mark.parametrize(
    ("policy", "phase", "tpu"),
    [(CompilePolicy.BEST_EFFORT, Phase.SUCCEEDED, "no compiler"), (CompilePolicy.DISABLED, Phase.SUCCEEDED, "off")],
)
def test_a_profile_without_compiler_skips_compile_without_a_job(policy: CompilePolicy, phase: Phase, tpu: str) -> None:
    sim = RunSimulation(run=run_view(compile=(CompileChoice("edgetpu", policy),)))
    assert sim.run.profile is not None
    sim.run = replace(sim.run, profile=replace(sim.run.profile, has_compiler=False))
    sim.finish()
    assert sim.read().phase is phase
    assert sim.read().summary.tpu == tpu
    assert sim.stage(Stage.COMPILE).phase is StagePhase.SKIPPED
    assert not any("compile" in name for name in sim.created)


def test_a_required_compile_without_compiler_fails_before_any_training() -> None:
    sim = RunSimulation(run=run_view(compile=(CompileChoice("edgetpu", CompilePolicy.REQUIRED),)))
    assert sim.run.profile is not None
    sim.run = replace(sim.run, profile=replace(sim.run.profile, has_compiler=False))
    sim.settle()
    assert sim.read().reason is Reason.COMPILER_UNAVAILABLE
    assert not sim.created


def test_a_refused_compile_is_skipped_under_best_effort_and_fails_where_required() -> None:
    for policy, phase in ((CompilePolicy.BEST_EFFORT, Phase.SUCCEEDED), (CompilePolicy.REQUIRED, Phase.FAILED)):
        sim = RunSimulation(run=run_view(compile=(CompileChoice("edgetpu", policy),)))
        sim.to_stage(Stage.COMPILE)
        sim.fail(Reason.COMPILE_FAILED)
        sim.settle()
        if phase is Phase.SUCCEEDED:
            sim.finish()
            assert sim.read().compile[0].compiled is False
            assert sim.read().summary.tpu == "refused"
        assert sim.read().phase is phase


def test_a_changed_profile_snapshot_stops_the_run() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.settle()
    assert sim.run.profile is not None
    sim.run = replace(sim.run, profile=replace(sim.run.profile, digest="sha256:" + "b" * 64))
    sim.settle()
    assert sim.read().reason is Reason.PROFILE_CHANGED
    assert sim.active_job() is None


def test_a_status_that_names_another_profile_stops_the_run() -> None:
    sim = RunSimulation()
    sim.settle()
    assert sim.status is not None
    sim.status = {**sim.status, "resolved": {**sim.status["resolved"], "profile": "privileged"}}
    sim.settle()
    assert sim.read().reason is Reason.PROFILE_CHANGED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"profile": None}, Reason.PROFILE_NOT_FOUND), ({"missing": "ObjectStore team/x"}, Reason.OBJECT_STORE_NOT_FOUND)],
)
def test_a_missing_object_is_waited_for_and_then_named(changes: dict[str, Any], reason: Reason) -> None:
    sim = RunSimulation(run=run_view(**changes))
    sim.settle()
    assert sim.read().phase is Phase.PENDING
    assert sim.read().reason is reason
    assert any(item.type == "Stalled" for item in sim.read().conditions)
    sim.pass_time(1801)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sim.read().reason is reason


def test_a_missing_profile_is_called_by_its_name() -> None:
    sim = RunSimulation(run=run_view(profile=None, profile_name="team-gpu"))
    sim.settle()
    assert sim.read().message == "TrainingProfile team-gpu, which spec.profileRef names, does not exist"


def test_an_object_that_comes_late_lets_the_run_go_on() -> None:
    sim = RunSimulation(run=run_view(missing="ObjectStore team/x does not exist"))
    sim.settle()
    sim.pass_time(1000)
    sim.run = replace(sim.run, missing="")
    sim.settle()
    assert sim.read().phase is Phase.CONVERTING
    sim.finish()


def test_an_invalid_spec_fails_the_run_with_its_message() -> None:
    sim = RunSimulation(run=run_view(invalid="200000 steps exceed the limit of 100000"))
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sim.read().reason is Reason.INVALID_SPEC
    assert "200000" in sim.read().message


def test_the_profile_is_snapshotted_once() -> None:
    sim = RunSimulation()
    assert sim.reconcile().snapshot_profile
    assert not sim.reconcile().snapshot_profile


def test_progress_is_written_at_most_every_thirty_seconds() -> None:
    from atoll_contract.stage_result import Progress

    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.settle()
    writes = sim.writes
    for step in range(60):
        sim.pass_time(1)
        progress = Progress(percent=step, step=step, total_steps=1000, loss=0.61, ap50=0.71, eta_seconds=190)
        sim.pod_of(job, progress=progress)
        sim.settle()
    assert sim.writes - writes <= 2
    assert sim.read().message == "step 59/1000, loss 0.610, AP50 0.71, about 3 min left"
    assert sim.read().phase is Phase.TRAINING


@pytest.mark.parametrize("value", [1e308, -1e308], ids=["huge", "below zero"])
def test_O28_a_huge_number_in_a_progress_line_ends_no_reconcile(value: float) -> None:
    from atoll_contract.stage_result import parse_line

    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.settle()
    sim.pass_time(31)
    line = f'ATOLL_PROGRESS {{"percent":{value},"step":{10**30},"etaSeconds":{value},"loss":{value},"ap50":{value}}}'
    sim.pod_of(job, progress=parse_line(line))
    sim.settle()
    progress = sim.read().progress
    assert progress is not None
    assert 0 <= progress.percent <= 99
    assert (progress.loss, progress.ap50) == (None, None)
    assert sim.read().phase is Phase.TRAINING


def test_the_status_is_bounded_whatever_the_stages_report() -> None:
    sim = RunSimulation()
    sim.finish()
    status = sim.read()
    from atoll_operator.api.figures import ClassMetric
    from atoll_operator.api.status_codec import write_status

    crowded = replace(status, per_class=tuple(ClassMetric("x" * 64, f"0.{n}") for n in range(1000)))
    assert len(to_json(write_status(crowded))) <= MAX_STATUS_BYTES


def test_a_merge_patch_removes_missing_keys() -> None:
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1}}) == {"a": None, "b": {"d": None}}
    assert merge_patch({"a": 1}, {"a": 1}) == {}


def test_events_appear_in_the_order_of_the_stages() -> None:
    sim = RunSimulation()
    sim.finish()
    reasons = [event.reason for event in sim.events]
    assert reasons[:3] == ["Admitted", "StageStarted", "StageSucceeded"]
    assert reasons[-3:] == ["StageSucceeded", "ReleasePublished", "Completed"]
    # The log writes the reason before the message.
    assert sim.events[-1].message == f"published as {sim.read().summary.release}"


def test_pod_events_appear_once() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, phase=PodPhase.PENDING, unschedulable="0/5 nodes are available: 5 Insufficient nvidia.com/gpu")
    for _ in range(5):
        sim.pass_time(5)
        sim.settle()
    assert [event.reason for event in sim.events].count("Unschedulable") == 1


def test_O39_a_stage_that_waits_for_its_store_says_so_at_once_and_goes_on() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.pod_of(job, progress=Progress(40.0, step=400, total_steps=1000))
    sim.settle()
    before = sim.read().message
    sim.pass_time(1)
    out = "s3://frc/ at http://store:9000: cannot write 'x': EndpointConnectionError; trying again for up to 180 s"
    sim.pod_of(job, progress=Progress(40.0, step=400, total_steps=1000, waiting=out))
    sim.settle()
    assert sim.read().message == f"attempt 1 waits: {out}"
    assert sim.read().phase is Phase.TRAINING
    assert "Stalled" not in {item.type for item in sim.read().conditions}
    sim.pod_of(job, progress=Progress(40.0, step=400, total_steps=1000))
    sim.settle()
    assert sim.read().message == before


def test_the_percentage_does_not_stay_at_the_last_word_of_a_stage_that_is_over() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    sim.pod_of(job, progress=Progress(1.0, step=10, total_steps=1000))
    sim.settle()
    assert sim.read().progress is not None
    assert sim.read().progress.percent == 8  # type: ignore[union-attr]
    sim.succeed()
    sim.settle()
    status = sim.read()
    assert (status.phase, status.progress.percent, status.progress.display) == (Phase.EXPORTING, 84, "84%")  # type: ignore[union-attr]
