"""decide: the life of a run from acceptance to its end."""

from typing import Any

import pytest

from atoll_contract.document import replace, to_json
from atoll_contract.errors import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import MAX_STATUS_BYTES, Phase, StagePhase, merge_patch
from atoll_operator.lifecycle.model import CompileChoice, PodPhase, QueueView
from support.decide_world import SHA, World, run_view


def test_a_run_without_failures_succeeds() -> None:
    world = World()
    world.finish()
    status = world.read()
    assert status.phase is Phase.SUCCEEDED
    assert status.summary.release == "note-v1"
    assert status.summary.ap50 == "0.88"
    assert status.summary.tpu == "98%"
    assert status.dataset is not None
    assert status.dataset.pictures == 110
    assert [item.phase for item in status.stages] == [StagePhase.SUCCEEDED] * 5
    assert world.published == {1}
    assert status.progress is not None
    assert status.progress.display == "100%"
    assert {item.type: item.status for item in status.conditions} == {
        "Succeeded": "True",
        "DatasetValid": "True",
        "QualityPassed": "True",
        "Published": "True",
    }


def test_the_first_status_is_complete() -> None:
    world = World()
    world.reconcile()
    first = world.history[0]
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
    world = World()
    world.finish()
    creations = sum(world.created.values())
    assert creations == 5
    # Two statuses a stage, the release and its status.
    assert world.writes + creations + 2 <= 20


def test_each_stage_gets_the_outputs_of_the_earlier_ones() -> None:
    world = World()
    world.finish()
    publish = next(request for request in world.requests.values() if request.stage is Stage.PUBLISH)
    assert set(publish.upstream) == {Stage.CONVERT, Stage.TRAIN, Stage.EXPORT, Stage.COMPILE}
    assert publish.upstream[Stage.EXPORT][0].sha256 == SHA
    assert publish.version == 1


def test_the_status_announces_an_attempt_before_its_job_exists() -> None:
    world = World()
    plan = world.decide()
    assert [item.stage for item in plan.create] == [Stage.CONVERT]
    assert plan.status.stage(Stage.CONVERT).attempts == 1
    assert plan.status.stage(Stage.CONVERT).job_ref is None


def test_a_lost_creation_is_made_again_under_the_same_name() -> None:
    world = World()
    world.reconcile(crash_before="create")
    world.settle()
    assert world.created == {"note-convert-1-0123abcd": 1}


def test_suspension_stops_the_clock_and_costs_no_attempt() -> None:
    world = World()
    world.to_stage(Stage.TRAIN)
    world.start()
    world.pass_time(100)
    world.settle()
    world.run = replace(world.run, suspend=True, generation=2)
    world.settle()
    assert world.read().phase is Phase.SUSPENDED
    assert world.active_job() is None
    assert world.read().active_seconds == 100
    world.pass_time(10_000)
    world.run = replace(world.run, suspend=False, generation=3)
    world.settle()
    assert world.read().phase is Phase.TRAINING
    assert world.stage(Stage.TRAIN).attempts == 2
    assert world.stage(Stage.TRAIN).failures == 0
    world.finish()
    assert world.read().active_seconds < 1000


def test_a_deleting_job_of_a_suspended_run_is_waited_for() -> None:
    world = World()
    world.to_stage(Stage.TRAIN)
    job = world.start()
    world.settle()
    world.run = replace(world.run, suspend=True)
    world.reconcile(crash_before="delete")
    world.jobs[job.name] = replace(job, deleting=True)
    world.run = replace(world.run, suspend=False)
    plan = world.reconcile()
    assert not plan.create
    assert job.name in world.read().message
    world.remove_job(job.name)
    world.settle()
    assert world.active_job() is not None
    assert world.stage(Stage.TRAIN).attempts == 2


@pytest.mark.parametrize("stage", list(Stage))
def test_cancel_ends_a_run_in_every_stage(stage: Stage) -> None:
    world = World()
    world.to_stage(stage)
    world.settle()
    world.run = replace(world.run, cancel=True)
    world.settle()
    assert world.read().phase is Phase.CANCELLED
    assert world.read().reason is Reason.CANCELLED
    assert world.active_job() is None


def test_a_terminal_phase_never_changes() -> None:
    world = World()
    world.finish()
    before = world.read()
    world.run = replace(world.run, cancel=True, suspend=True, profile=None, missing="gone", retry="again")
    world.pass_time(500_000)
    world.settle()
    assert world.read() == before


def test_the_deadline_ends_a_run_and_its_job() -> None:
    world = World(run=run_view(active_deadline_seconds=600))
    world.to_stage(Stage.TRAIN)
    world.start()
    plan = world.settle()
    assert plan.requeue_after is not None
    assert plan.requeue_after <= 600
    world.pass_time(601)
    world.settle()
    assert world.read().reason is Reason.DEADLINE_EXCEEDED
    assert world.active_job() is None


def test_a_queued_run_shows_its_position_and_uses_no_active_time() -> None:
    world = World(run=run_view(queue=QueueView(ahead=2, eta_seconds=2100), active_deadline_seconds=600))
    world.settle()
    assert world.read().phase is Phase.QUEUED
    assert world.read().message == "Queued: 2 ahead, about 35 min"
    assert not world.jobs
    world.pass_time(50_000)
    world.run = replace(world.run, queue=QueueView())
    world.settle()
    assert world.read().phase is Phase.CONVERTING
    assert world.read().queue is None


def test_a_retry_goes_on_from_the_failed_stage_with_the_next_attempt() -> None:
    world = World(run=run_view(backoff_limit=0))
    world.to_stage(Stage.TRAIN)
    world.fail(Reason.TRAINING_DIVERGED)
    world.settle()
    assert world.read().phase is Phase.FAILED
    world.run = replace(world.run, retry="2027-01-09T19:00:00Z")
    world.settle()
    assert world.read().phase is Phase.TRAINING
    assert world.stage(Stage.TRAIN).attempts == 2
    assert world.stage(Stage.CONVERT).attempts == 1
    world.finish()
    assert world.read().phase is Phase.SUCCEEDED
    assert world.read().last_handled_retry == "2027-01-09T19:00:00Z"


def test_a_retry_takes_the_profile_as_it_is_now() -> None:
    world = World()
    world.to_stage(Stage.TRAIN)
    world.fail(Reason.TRAINING_DIVERGED)
    world.settle()
    assert world.run.profile is not None
    corrected = replace(world.run.profile, digest="sha256:" + "c" * 64, revision="atoll-profile-2")
    world.run = replace(world.run, profile=corrected, retry="again")
    plan = world.reconcile()
    assert plan.status.resolved is None
    assert not plan.create
    assert world.reconcile().snapshot_profile
    world.finish()
    resolved = world.read().resolved
    assert world.read().phase is Phase.SUCCEEDED
    assert resolved is not None
    assert resolved.profile_revision == "atoll-profile-2"


def test_a_retry_may_name_an_earlier_stage() -> None:
    world = World()
    world.to_stage(Stage.EXPORT)
    world.fail(Reason.QUALITY_GATE_FAILED)
    world.settle()
    world.run = replace(world.run, retry="2027-01-09T19:00:00Z:train")
    world.settle()
    assert world.read().phase is Phase.TRAINING
    assert world.stage(Stage.TRAIN).attempts == 2


def test_a_retry_on_an_active_run_has_no_effect_later() -> None:
    world = World(run=run_view(backoff_limit=0))
    world.settle()
    world.run = replace(world.run, retry="now")
    world.settle()
    world.fail(Reason.DATASET_UNSAFE)
    world.settle()
    assert world.read().phase is Phase.FAILED


def test_ttls_remove_jobs_and_then_the_run() -> None:
    world = World(run=run_view(job_ttl_seconds=60, ttl_seconds=600))
    world.finish()
    assert len(world.jobs) == 5
    assert world.reconcile().requeue_after == 60
    world.pass_time(61)
    world.settle()
    assert not world.jobs
    assert not world.deleted_run
    world.pass_time(600)
    world.reconcile()
    assert world.deleted_run


def test_without_a_ttl_a_run_is_never_deleted() -> None:
    world = World()
    world.finish()
    world.pass_time(10**8)
    world.reconcile()
    assert not world.deleted_run


@pytest.mark.parametrize(
    ("policy", "phase", "tpu"),
    [(CompilePolicy.BEST_EFFORT, Phase.SUCCEEDED, "no compiler"), (CompilePolicy.DISABLED, Phase.SUCCEEDED, "off")],
)
def test_a_profile_without_compiler_skips_compile_without_a_job(policy: CompilePolicy, phase: Phase, tpu: str) -> None:
    world = World(run=run_view(compile=(CompileChoice("edgetpu", policy),)))
    assert world.run.profile is not None
    world.run = replace(world.run, profile=replace(world.run.profile, has_compiler=False))
    world.finish()
    assert world.read().phase is phase
    assert world.read().summary.tpu == tpu
    assert world.stage(Stage.COMPILE).phase is StagePhase.SKIPPED
    assert not any("compile" in name for name in world.created)


def test_a_required_compile_without_compiler_fails_before_any_training() -> None:
    world = World(run=run_view(compile=(CompileChoice("edgetpu", CompilePolicy.REQUIRED),)))
    assert world.run.profile is not None
    world.run = replace(world.run, profile=replace(world.run.profile, has_compiler=False))
    world.settle()
    assert world.read().reason is Reason.COMPILER_UNAVAILABLE
    assert not world.created


def test_a_refused_compile_is_skipped_under_best_effort_and_fails_where_required() -> None:
    for policy, phase in ((CompilePolicy.BEST_EFFORT, Phase.SUCCEEDED), (CompilePolicy.REQUIRED, Phase.FAILED)):
        world = World(run=run_view(compile=(CompileChoice("edgetpu", policy),)))
        world.to_stage(Stage.COMPILE)
        world.fail(Reason.COMPILE_FAILED)
        world.settle()
        if phase is Phase.SUCCEEDED:
            world.finish()
            assert world.read().compile[0].compiled is False
            assert world.read().summary.tpu == "refused"
        assert world.read().phase is phase


def test_a_changed_profile_snapshot_stops_the_run() -> None:
    world = World()
    world.to_stage(Stage.TRAIN)
    world.settle()
    assert world.run.profile is not None
    world.run = replace(world.run, profile=replace(world.run.profile, digest="sha256:" + "b" * 64))
    world.settle()
    assert world.read().reason is Reason.PROFILE_CHANGED
    assert world.active_job() is None


def test_a_status_that_names_another_profile_stops_the_run() -> None:
    world = World()
    world.settle()
    assert world.status is not None
    world.status = {**world.status, "resolved": {**world.status["resolved"], "profile": "privileged"}}
    world.settle()
    assert world.read().reason is Reason.PROFILE_CHANGED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"profile": None}, Reason.PROFILE_NOT_FOUND), ({"missing": "ObjectStore team/x"}, Reason.OBJECT_STORE_NOT_FOUND)],
)
def test_a_missing_object_is_waited_for_and_then_named(changes: dict[str, Any], reason: Reason) -> None:
    world = World(run=run_view(**changes))
    world.settle()
    assert world.read().phase is Phase.PENDING
    assert world.read().reason is reason
    assert any(item.type == "Stalled" for item in world.read().conditions)
    world.pass_time(1801)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert world.read().reason is reason


def test_an_object_that_comes_late_lets_the_run_go_on() -> None:
    world = World(run=run_view(missing="ObjectStore team/x does not exist"))
    world.settle()
    world.pass_time(1000)
    world.run = replace(world.run, missing="")
    world.settle()
    assert world.read().phase is Phase.CONVERTING
    world.finish()


def test_an_invalid_spec_fails_the_run_with_its_message() -> None:
    world = World(run=run_view(invalid="200000 steps exceed the limit of 100000"))
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert world.read().reason is Reason.INVALID_SPEC
    assert "200000" in world.read().message


def test_the_profile_is_snapshotted_once() -> None:
    world = World()
    assert world.reconcile().snapshot_profile
    assert not world.reconcile().snapshot_profile


def test_progress_is_written_at_most_every_thirty_seconds() -> None:
    from atoll_contract.stage_result import Progress

    world = World()
    world.to_stage(Stage.TRAIN)
    job = world.start()
    world.settle()
    writes = world.writes
    for step in range(60):
        world.pass_time(1)
        progress = Progress(percent=step, step=step, total_steps=1000, loss=0.61, ap50=0.71, eta_seconds=190)
        world.pod_of(job, progress=progress)
        world.settle()
    assert world.writes - writes <= 2
    assert world.read().message == "step 59/1000, loss 0.610, AP50 0.71, about 3 min left"
    assert world.read().phase is Phase.TRAINING


def test_the_status_is_bounded_whatever_the_stages_report() -> None:
    world = World()
    world.finish()
    status = world.read()
    from atoll_operator.api.status import ClassMetric, write_status

    crowded = replace(status, per_class=tuple(ClassMetric("x" * 64, f"0.{n}") for n in range(1000)))
    assert len(to_json(write_status(crowded))) <= MAX_STATUS_BYTES


def test_a_merge_patch_removes_missing_keys() -> None:
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1}}) == {"a": None, "b": {"d": None}}
    assert merge_patch({"a": 1}, {"a": 1}) == {}


def test_events_appear_in_the_order_of_the_stages() -> None:
    world = World()
    world.finish()
    reasons = [event.reason for event in world.events]
    assert reasons[:3] == ["Admitted", "StageStarted", "StageSucceeded"]
    assert reasons[-3:] == ["StageSucceeded", "ReleasePublished", "Completed"]
    # The log writes the reason before the message.
    assert world.events[-1].message == f"published as {world.read().summary.release}"


def test_pod_events_appear_once() -> None:
    world = World()
    world.settle()
    job = world.active_job()
    assert job is not None
    world.pod_of(job, phase=PodPhase.PENDING, unschedulable="0/5 nodes are available: 5 Insufficient nvidia.com/gpu")
    for _ in range(5):
        world.pass_time(5)
        world.settle()
    assert [event.reason for event in world.events].count("Unschedulable") == 1
