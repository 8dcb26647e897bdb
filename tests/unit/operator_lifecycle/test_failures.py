"""decide: failures of Jobs, pods and results, and the reasons and messages that the run shows for them."""

from dataclasses import replace

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, StageResult
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView, QueueView
from support.decide_world import UID, World, failure, outputs_of, run_view, success


def at_train(**changes: object) -> World:
    world = World(run=run_view(**changes))
    world.to_stage(Stage.TRAIN)
    world.settle()
    return world


def test_a_transient_failure_is_retried_with_growing_delays() -> None:
    world = at_train(backoff_limit=2)
    for failures, delay in ((1, 5), (2, 10)):
        world.fail(Reason.INTERNAL_ERROR)
        plan = world.settle()
        assert world.stage(Stage.TRAIN).failures == failures
        assert plan.requeue_after == delay
        assert world.active_job() is None
        world.pass_time(delay)
        world.settle()
        assert world.stage(Stage.TRAIN).attempts == failures + 1
    world.fail(Reason.INTERNAL_ERROR)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert world.read().reason is Reason.INTERNAL_ERROR
    assert "backoffLimit 2" in world.read().message


def test_without_a_backoff_limit_nothing_is_retried() -> None:
    world = at_train(backoff_limit=0)
    world.fail(Reason.STORAGE_UNAVAILABLE)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert sum("train" in name for name in world.created) == 1


@pytest.mark.parametrize("reason", [Reason.DATASET_UNSAFE, Reason.STORAGE_FORBIDDEN, Reason.TRAINING_DIVERGED])
def test_a_permanent_failure_ends_the_run(reason: Reason) -> None:
    world = at_train()
    world.fail(reason)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert world.read().reason is reason


def test_a_store_that_is_down_for_an_hour_fails_no_run() -> None:
    world = at_train(backoff_limit=2)
    began = world.now
    while (world.now - began).total_seconds() < 3600:
        world.fail(Reason.STORAGE_UNAVAILABLE)
        plan = world.settle()
        assert plan.requeue_after is not None
        assert plan.requeue_after <= 300
        world.pass_time(plan.requeue_after)
        world.settle()
    assert world.read().phase is Phase.TRAINING
    world.finish()
    assert world.read().phase is Phase.SUCCEEDED


def test_a_store_that_stays_down_ends_the_run_after_six_hours() -> None:
    world = at_train(backoff_limit=1, active_deadline_seconds=80_000)
    for _ in range(100):
        if world.read().is_terminal:
            break
        world.fail(Reason.STORAGE_UNAVAILABLE)
        plan = world.settle()
        world.pass_time(plan.requeue_after or 0)
        world.settle()
    assert world.read().reason is Reason.STORAGE_UNAVAILABLE
    assert world.read().phase is Phase.FAILED


def test_exit_zero_without_a_result_is_a_failure() -> None:
    world = at_train()
    world.succeed(message="")
    world.settle()
    train = world.stage(Stage.TRAIN)
    assert train.phase is StagePhase.PENDING
    assert train.last_failure.reason is Reason.RESULT_MISSING
    assert train.failures == 1


def test_a_pod_that_was_removed_after_its_success_costs_no_attempt() -> None:
    world = at_train(backoff_limit=0)
    job = world.succeed()
    world.pods.clear()
    world.settle()
    world.pass_time(5)
    world.settle()
    train = world.stage(Stage.TRAIN)
    assert (train.attempts, train.failures) == (2, 0)
    assert job.name in train.last_failure.message
    world.succeed(success(Stage.TRAIN, 1, reason=Reason.ADOPTED))
    world.settle()
    assert world.stage(Stage.TRAIN).reason is Reason.ADOPTED


def test_a_deleted_job_is_named_and_the_stage_is_retried() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    world.remove_job(job.name)
    world.settle()
    assert world.stage(Stage.TRAIN).last_failure.reason is Reason.JOB_DELETED_EXTERNALLY
    assert job.name in world.read().message
    world.pass_time(5)
    world.settle()
    assert world.stage(Stage.TRAIN).attempts == 2


def test_a_finished_stage_whose_job_is_deleted_stays_finished() -> None:
    world = at_train()
    for name in list(world.jobs):
        if "convert" in name:
            world.remove_job(name)
    world.settle()
    assert world.stage(Stage.CONVERT).phase is StagePhase.SUCCEEDED
    world.finish()
    assert world.created["note-convert-1-0123abcd"] == 1


def test_a_job_of_somebody_else_stops_the_run() -> None:
    world = World()
    world.settle()
    job = world.active_job()
    assert job is not None
    world.jobs[job.name] = replace(job, owner_uid="another")
    world.settle()
    assert world.read().reason is Reason.JOB_NAME_CONFLICT
    assert job.name in world.jobs


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ErrImagePull", "401 Unauthorized", Reason.IMAGE_PULL_FAILED),
        ("ImagePullBackOff", 'Back-off pulling image "x"', Reason.IMAGE_PULL_FAILED),
        ("CreateContainerConfigError", 'secret "s3-train" not found', Reason.SECRET_NOT_FOUND),
    ],
)
def test_the_message_of_a_waiting_container_is_in_the_condition(reason: str, message: str, expected: Reason) -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    world.pod_of(job, waiting_reason=reason, waiting_message=message)
    world.settle()
    root = next(item for item in world.read().conditions if item.type == "Succeeded")
    assert root.status == "Unknown"
    assert root.reason is expected
    assert message in root.message
    assert any(item.type == "Stalled" for item in world.read().conditions)


def test_the_registrys_error_is_kept_while_the_kubelet_backs_off() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    world.pod_of(job, waiting_reason="ErrImagePull", waiting_message="401 Unauthorized")
    world.settle()
    world.pod_of(job, waiting_reason="ImagePullBackOff", waiting_message="Back-off pulling image")
    writes = world.writes
    world.settle()
    assert "401" in world.read().message
    assert world.writes == writes


def test_a_missing_secret_that_only_an_event_names_fails_the_run() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    message = 'FailedMount: MountVolume.SetUp failed for volume "files-0" : secret "s3" not found'
    world.pod_of(job, warning=message)
    world.settle()
    assert world.read().reason is Reason.SECRET_NOT_FOUND
    world.pass_time(121)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert 'secret "s3" not found' in world.read().message
    assert world.active_job() is None


def test_an_invalid_image_name_fails_at_once() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    world.pod_of(job, waiting_reason="InvalidImageName", waiting_message="couldn't parse image name")
    world.settle()
    assert world.read().reason is Reason.IMAGE_PULL_FAILED
    assert world.read().phase is Phase.FAILED


def test_an_unschedulable_pod_waits_until_the_pending_deadline() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    message = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu"
    world.pod_of(job, unschedulable=message)
    world.pass_time(1700)
    world.settle()
    assert world.read().reason is Reason.UNSCHEDULABLE
    assert world.read().phase is Phase.TRAINING
    world.pass_time(200)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert message in world.read().message


def test_the_pending_deadline_pauses_while_another_run_holds_the_resource() -> None:
    world = at_train(queue=QueueView(others_active=True))
    job = world.active_job()
    assert job is not None
    world.pod_of(job, unschedulable="Insufficient nvidia.com/gpu")
    world.pass_time(10_000)
    world.settle()
    assert world.read().phase is Phase.TRAINING
    world.run = replace(world.run, queue=QueueView())
    world.settle()
    world.pass_time(1799)
    world.settle()
    assert world.read().phase is Phase.TRAINING
    world.pass_time(2)
    world.settle()
    assert world.read().phase is Phase.FAILED


def test_a_job_that_kueue_holds_waits_without_deadline() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    world.jobs[job.name] = replace(job, state=JobState.SUSPENDED)
    world.pass_time(20_000)
    world.settle()
    assert world.read().reason is Reason.QUEUED
    assert not world.read().is_terminal


def test_a_pod_that_never_starts_exceeds_the_start_timeout() -> None:
    world = at_train()
    world.pass_time(1801)
    world.settle()
    assert world.read().reason is Reason.START_TIMEOUT


def test_a_running_pod_has_no_pending_deadline() -> None:
    world = at_train()
    world.start()
    world.settle()
    world.pass_time(20_000)
    world.settle()
    assert world.read().phase is Phase.TRAINING


def test_out_of_memory_is_not_retried() -> None:
    world = at_train()
    world.fail(Reason.INTERNAL_ERROR, code=137, message="", terminated_reason="OOMKilled")
    world.settle()
    assert world.read().reason is Reason.OUT_OF_MEMORY
    assert "batchSize" in world.read().message


def test_an_oom_kill_with_exit_code_zero_is_out_of_memory() -> None:
    world = at_train()
    job = world.succeed()
    world.pod_of(job, terminated_reason="OOMKilled")
    world.settle()
    assert world.read().reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("message", "reason", "phase"),
    [
        ('Usage of EmptyDir volume "work" exceeds the limit "20Gi".', Reason.EPHEMERAL_STORAGE_EXCEEDED, Phase.FAILED),
        ("The node was low on resource: memory.", Reason.EVICTED, Phase.TRAINING),
    ],
)
def test_an_evicted_pod_fails_or_retries_by_what_it_exceeded(message: str, reason: Reason, phase: Phase) -> None:
    world = at_train()
    job = world.fail(Reason.INTERNAL_ERROR, code=137, message="")
    job = next(item for item in world.jobs.values() if item.name == job.name)
    world.pod_of(job, reason="Evicted", message=message, exit_code=None)
    world.settle()
    assert world.read().phase is phase
    assert world.stage(Stage.TRAIN).last_failure.reason is reason
    assert message in world.stage(Stage.TRAIN).last_failure.message


def test_a_lost_node_is_named_and_waited_for() -> None:
    world = at_train()
    job = world.start()
    world.pod_of(job, node_lost="node pi-3 is unreachable since 18:03")
    world.settle()
    assert world.read().reason is Reason.NODE_LOST
    assert "pi-3" in world.read().message
    world.pass_time(20_000)
    world.settle()
    assert not world.read().is_terminal


def test_disruptions_are_not_counted_up_to_a_limit() -> None:
    world = at_train(backoff_limit=0)
    job = world.start()
    for number in range(20):
        name = f"disrupted-{number}"
        world.pods[name] = PodView(name, name, job.name, PodPhase.FAILED, world.now, disruption="drained")
    world.settle()
    assert world.read().phase is Phase.TRAINING
    world.pods["one-more"] = PodView("one-more", "x", job.name, PodPhase.FAILED, world.now, disruption="drained")
    world.settle()
    assert world.read().reason is Reason.TOO_MANY_DISRUPTIONS


def test_a_rejected_job_quotes_the_admission_policy() -> None:
    world = World()
    plan = world.reconcile(crash_before="create")
    name = f"note-convert-{plan.create[0].attempt}-0123abcd"
    # The engine gives a refused creation as a REJECTED view.
    world.jobs[name] = JobView(
        name,
        "",
        UID,
        Stage.CONVERT,
        1,
        JobState.REJECTED,
        world.now,
        failure_message="policy no-root denied the request",
    )
    world.settle()
    assert world.read().reason is Reason.INVALID_SPEC
    assert "no-root" in world.read().message


def test_an_exhausted_quota_is_waited_for_and_quoted() -> None:
    world = at_train()
    job = world.active_job()
    assert job is not None
    message = 'pods "x" is forbidden: exceeded quota: gpu-quota, requested: nvidia.com/gpu=1, used: 4, limited: 4'
    world.jobs[job.name] = replace(job, create_error=message)
    world.settle()
    assert world.read().reason is Reason.QUOTA_EXCEEDED
    assert message in world.read().message
    assert not world.read().is_terminal


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "{}",
        '{"schemaVersion":1,"stage":"train","attempt":1,"reason":"Fine","message":""}',
        '{"schemaVersion":1,"stage":"export","attempt":1,"reason":"Completed","message":""}',
        '{"schemaVersion":1,"stage":"train","attempt":7,"reason":"Completed","message":""}',
        '{"stage":"train","attempt":1,"reason":"Completed","message":"","evil":1}',
    ],
)
def test_a_malformed_result_is_not_a_success(message: str) -> None:
    world = at_train(backoff_limit=0)
    world.succeed(message=message)
    world.settle()
    assert world.read().phase is Phase.FAILED
    assert world.read().reason is Reason.RESULT_MISSING


@pytest.mark.parametrize(
    "key",
    [
        "models/team/note/v1/manifest.json",
        f"runs/other/{UID}/train/a1-x/weights",
        "runs/team/another-uid/train/a1-x/weights",
        f"runs/team/{UID}/../../other",
        "/etc/passwd",
        "cache/team/datasets/x/dataset.json",
    ],
)
def test_a_forged_key_is_an_integrity_failure(key: str) -> None:
    world = at_train()
    outputs = (Artifact("weights", key, "a" * 64, 1),)
    result = StageResult("train", 1, Reason.COMPLETED, "done", outputs)
    world.succeed(message=result.termination_message().decode())
    world.settle()
    assert world.read().reason is Reason.INTEGRITY_MISMATCH
    assert world.stage(Stage.TRAIN).outputs == ()


def test_an_artifact_of_an_earlier_stage_may_be_handed_on() -> None:
    world = World()
    world.to_stage(Stage.EXPORT)
    world.settle()
    handed_on = outputs_of(Stage.CONVERT)
    result = StageResult("export", 1, Reason.COMPLETED, "done", (*outputs_of(Stage.EXPORT), *handed_on))
    world.succeed(result.termination_message().decode())
    world.settle()
    assert world.stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED


def test_another_namespaces_cache_is_refused() -> None:
    world = World()
    world.settle()
    outputs = (Artifact("dataset", "cache/other/datasets/x/dataset.json", "a" * 64, 1),)
    world.succeed(StageResult("convert", 1, Reason.COMPLETED, "done", outputs).termination_message().decode())
    world.settle()
    assert world.read().reason is Reason.INTEGRITY_MISMATCH


def test_a_hostile_summary_is_ignored() -> None:
    world = World()
    world.settle()
    summary = {"pictures": "many", "classes": [1, {"name": 5}, {"name": "x" * 500, "boxes": -1}], "digest": 7}
    result = StageResult("convert", 1, Reason.COMPLETED, "done\x00\x1b[2J", outputs_of(Stage.CONVERT), summary)
    world.succeed(result.termination_message().decode())
    world.settle()
    dataset = world.read().dataset
    assert dataset is not None
    assert dataset.pictures == 0
    assert [(item.name[:3], item.boxes) for item in dataset.classes] == [("xxx", 0)]
    assert "\x1b" not in world.stage(Stage.CONVERT).message


def test_the_exit_code_wins_over_a_result_that_contradicts_it() -> None:
    world = at_train(backoff_limit=0)
    world.fail(Reason.INTERNAL_ERROR, code=40, message=success(Stage.TRAIN, 1))
    world.settle()
    assert world.read().reason is Reason.TRAINING_DIVERGED


def test_a_killed_stage_without_a_message_is_named_by_its_signal() -> None:
    world = at_train()
    world.fail(Reason.INTERNAL_ERROR, code=137, message="")
    world.settle()
    assert "signal 9" in world.read().message
    assert world.read().phase is Phase.TRAINING


class TestPublish:
    def at_publish(self) -> World:
        world = World()
        world.to_stage(Stage.PUBLISH)
        world.settle()
        return world

    def test_the_version_is_reserved_before_the_job_exists(self) -> None:
        world = World(releases={1: "other", 2: "other"})
        world.to_stage(Stage.COMPILE)
        world.succeed()
        plan = world.reconcile()
        assert plan.reserve is not None
        assert plan.reserve.name == "note-v3"
        assert plan.reserve.model_digest == "sha256:" + "a" * 64
        assert not plan.create
        world.settle()
        assert world.requests["note-publish-1-0123abcd"].version == 3

    def test_a_failed_publish_keeps_its_version(self) -> None:
        world = self.at_publish()
        world.fail(Reason.STORAGE_UNAVAILABLE)
        world.settle()
        world.pass_time(300)
        world.finish()
        assert world.read().summary.release == "note-v1"
        assert set(world.releases) == {1}

    def test_a_version_conflict_uses_the_free_version(self) -> None:
        world = self.at_publish()
        message = failure(Stage.PUBLISH, 1, Reason.VERSION_CONFLICT, {"nextVersion": 8})
        world.fail(Reason.VERSION_CONFLICT, message=message)
        world.settle()
        world.pass_time(5)
        world.settle()
        assert world.requests["note-publish-2-0123abcd"].version == 8
        world.finish()
        assert world.read().summary.release == "note-v8"
        assert world.stage(Stage.PUBLISH).failures == 0
        assert world.published == {8}

    def test_a_version_conflict_without_a_free_version_fails(self) -> None:
        world = self.at_publish()
        world.fail(Reason.VERSION_CONFLICT)
        world.settle()
        assert world.read().reason is Reason.VERSION_CONFLICT

    def test_another_versions_manifest_is_refused(self) -> None:
        world = self.at_publish()
        world.succeed(version=7)
        world.settle()
        assert world.read().reason is Reason.INTEGRITY_MISMATCH
        assert not world.published

    def test_a_lost_release_status_is_written_again(self) -> None:
        world = self.at_publish()
        world.succeed()
        world.reconcile(crash_before="release_status")
        assert not world.published
        world.reconcile(crash_before="status")
        assert world.published == {1}
        world.settle()
        assert world.read().phase is Phase.SUCCEEDED
