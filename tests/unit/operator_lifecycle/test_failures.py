"""decide: failures of Jobs, pods and results, and the reasons and messages that the run shows for them."""

from dataclasses import replace

import pytest

from atoll_contract.document import to_json
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, Progress, StageResult
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.lifecycle.model import AttemptNumber, JobState, JobView, PodPhase, PodView, QueueView
from support.run_simulation import UID, RunSimulation, failure, outputs_of, run_view, success


def at_train(**changes: object) -> RunSimulation:
    sim = RunSimulation(run=run_view(**changes))
    sim.to_stage(Stage.TRAIN)
    sim.settle()
    return sim


def test_a_transient_failure_is_retried_with_growing_delays() -> None:
    sim = at_train(backoff_limit=2)
    for failures, delay in ((1, 5), (2, 10)):
        sim.fail(Reason.INTERNAL_ERROR)
        plan = sim.settle()
        assert sim.stage(Stage.TRAIN).failures == failures
        assert plan.requeue_after == delay
        assert sim.active_job() is None
        sim.pass_time(delay)
        sim.settle()
        assert sim.stage(Stage.TRAIN).attempts == failures + 1
    sim.fail(Reason.INTERNAL_ERROR)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sim.read().reason is Reason.INTERNAL_ERROR
    assert "backoffLimit 2" in sim.read().message


def killed(sim: RunSimulation, *, saved: int, step: int) -> None:
    """The node loses its power while the training is at `step`; the log's end is all that is left of the attempt."""
    progress = f'ATOLL_PROGRESS {{"percent":50,"step":{step},"checkpointStep":{saved},"loss":1.0,"message":""}}'
    sim.fail(Reason.RESULT_MISSING, code=137, message=f"INFO tracing the graph\n{progress}\n")


def test_O38_power_cuts_that_each_come_after_a_new_checkpoint_end_no_run() -> None:
    sim = at_train(backoff_limit=2)
    for cut in range(1, 6):
        killed(sim, saved=100 * cut, step=100 * cut + 40)
        sim.settle()
        assert sim.stage(Stage.TRAIN).failures == 1
        assert f"goes on from step {100 * cut}" in sim.read().message
        sim.pass_time(5)
        sim.settle()
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.stage(Stage.TRAIN).attempts == 6


def test_O38_attempts_that_stay_at_one_checkpoint_use_up_the_limit() -> None:
    sim = at_train(backoff_limit=2)
    for _ in range(3):
        killed(sim, saved=100, step=140)
        sim.settle()
        sim.pass_time(60)
        sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert "backoffLimit 2 is used up since the checkpoint of step 100" in sim.read().message


def test_O38_a_checkpoint_that_was_seen_counts_although_the_pod_is_gone() -> None:
    sim = at_train(backoff_limit=1)
    for step in (10, 20, 30):
        job = sim.start()
        sim.pod_of(job, progress=Progress(50.0, step=step, checkpoint_step=step))
        sim.settle()
        sim.remove_job(job.name)
        sim.settle()
        assert sim.stage(Stage.TRAIN).reason is Reason.JOB_DELETED_EXTERNALLY
        assert sim.stage(Stage.TRAIN).failures == 1
        sim.pass_time(5)
        sim.settle()
    assert sim.read().phase is Phase.TRAINING


def test_O38_without_a_limit_a_cut_is_the_end() -> None:
    sim = at_train(backoff_limit=0)
    killed(sim, saved=100, step=140)
    sim.settle()
    assert sim.read().phase is Phase.FAILED


def test_O38_a_stage_that_is_asked_for_anew_forgets_its_checkpoints() -> None:
    sim = at_train(backoff_limit=0)
    killed(sim, saved=100, step=140)
    sim.settle()
    sim.run = replace(sim.run, retry="2027-01-09T20:00:00Z:train", backoff_limit=1)
    sim.settle()
    assert sim.stage(Stage.TRAIN).checkpoint_step is None
    killed(sim, saved=50, step=60)
    sim.settle()
    assert sim.stage(Stage.TRAIN).checkpoint_step == 50


def test_last_words_are_for_people() -> None:
    sim = at_train(backoff_limit=0)
    killed(sim, saved=100, step=140)
    sim.settle()
    message = sim.read().message
    assert "ATOLL_PROGRESS" not in message
    assert "exit code 137 (signal 9: its node or the container runtime stopped, or memory ran out)" in message
    assert message.endswith("at step 140; its last words: INFO tracing the graph")


def test_notices_of_tensorflow_are_no_last_words() -> None:
    log = (
        "converted weights are read\n"
        "2027-01-09 12:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is\n"
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow\n"
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "I0000 00:00:1764440000.123456   12345 gpu_device.cc:2022] Created device\n"
        "W0000 00:00:1764440000.123456       7 preemption_notifier.cc:91] SIGTERM caught\n"
        "E0000 00:00:1764440000.123456       7 cuda_executor.cc:1228] out of memory\n"
    )
    sim = at_train(backoff_limit=0)
    sim.fail(Reason.RESULT_MISSING, code=1, message=log)
    sim.settle()
    said = sim.read().message.partition("its last words: ")[2]
    assert said == ("converted weights are read E0000 00:00:1764440000.123456 7 cuda_executor.cc:1228] out of memory")


def test_notices_alone_are_no_words() -> None:
    sim = at_train(backoff_limit=0)
    sim.fail(Reason.RESULT_MISSING, code=1, message="I0000 00:00:1764440000.1   1 gpu_device.cc:2022] Created device\n")
    sim.settle()
    assert "last words" not in sim.read().message


def test_a_stage_that_is_killed_after_its_result_says_so_in_words() -> None:
    sim = at_train(backoff_limit=1)
    sim.fail(Reason.RESULT_MISSING, code=137, message=success(Stage.TRAIN, 1))
    sim.settle()
    message = sim.read().message
    assert "{" not in message
    assert "ended with exit code 137" in message
    assert "after it had written its result; another attempt takes that over" in message
    assert sim.read().reason is Reason.RESULT_MISSING


def test_a_progress_line_that_the_kubelet_has_cut_is_no_last_word() -> None:
    sim = at_train(backoff_limit=0)
    sim.fail(Reason.RESULT_MISSING, code=137, message='"message":"","step":7}\n' + "going on\n" * 230)
    sim.settle()
    assert '"step"' not in sim.read().message
    assert sim.read().message.endswith("going on")


def test_without_a_backoff_limit_nothing_is_retried() -> None:
    sim = at_train(backoff_limit=0)
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sum("train" in name for name in sim.created) == 1


@pytest.mark.parametrize("reason", [Reason.DATASET_UNSAFE, Reason.STORAGE_FORBIDDEN, Reason.TRAINING_DIVERGED])
def test_a_permanent_failure_ends_the_run(reason: Reason) -> None:
    sim = at_train()
    sim.fail(reason)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sim.read().reason is reason


def test_a_store_that_is_down_for_an_hour_fails_no_run() -> None:
    sim = at_train(backoff_limit=2)
    began = sim.now
    while (sim.now - began).total_seconds() < 3600:
        sim.fail(Reason.STORAGE_UNAVAILABLE)
        plan = sim.settle()
        assert plan.requeue_after is not None
        assert plan.requeue_after <= 300
        sim.pass_time(plan.requeue_after)
        sim.settle()
    assert sim.read().phase is Phase.TRAINING
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED


def test_a_store_that_stays_down_ends_the_run_after_six_hours() -> None:
    sim = at_train(backoff_limit=1, active_deadline_seconds=80_000)
    for _ in range(100):
        if sim.read().is_terminal:
            break
        sim.fail(Reason.STORAGE_UNAVAILABLE)
        plan = sim.settle()
        sim.pass_time(plan.requeue_after or 0)
        sim.settle()
    assert sim.read().reason is Reason.STORAGE_UNAVAILABLE
    assert sim.read().phase is Phase.FAILED


def test_exit_zero_without_a_result_is_a_failure() -> None:
    sim = at_train()
    sim.succeed(message="")
    sim.settle()
    train = sim.stage(Stage.TRAIN)
    assert train.phase is StagePhase.PENDING
    assert train.last_failure.reason is Reason.RESULT_MISSING
    assert train.failures == 1


def test_a_pod_that_was_removed_after_its_success_costs_no_attempt() -> None:
    sim = at_train(backoff_limit=0)
    sim.succeed()
    job = sim.succeed()
    sim.pods.clear()
    sim.settle()
    sim.pass_time(5)
    sim.settle()
    train = sim.stage(Stage.TRAIN)
    assert (train.attempts, train.failures) == (2, 0)
    assert job.name in train.last_failure.message
    # Export finds its own result in the store, too.
    assert sim.requests["note-train-2-0123abcd"].following == (AttemptNumber(Stage.EXPORT, 1),)
    sim.succeed(success(Stage.TRAIN, 1, reason=Reason.ADOPTED))
    sim.settle()
    assert sim.stage(Stage.TRAIN).reason is Reason.ADOPTED


def test_a_deleted_job_is_named_and_the_stage_is_retried() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.remove_job(job.name)
    sim.settle()
    assert sim.stage(Stage.TRAIN).last_failure.reason is Reason.JOB_DELETED_EXTERNALLY
    assert job.name in sim.read().message
    sim.pass_time(5)
    sim.settle()
    assert sim.stage(Stage.TRAIN).attempts == 2


def test_a_finished_stage_whose_job_is_deleted_stays_finished() -> None:
    sim = at_train()
    for name in list(sim.jobs):
        if "convert" in name:
            sim.remove_job(name)
    sim.settle()
    assert sim.stage(Stage.CONVERT).phase is StagePhase.SUCCEEDED
    sim.finish()
    assert sim.created["note-convert-1-0123abcd"] == 1


def test_a_job_of_somebody_else_stops_the_run() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.active_job()
    assert job is not None
    sim.jobs[job.name] = replace(job, owner_uid="another")
    sim.settle()
    assert sim.read().reason is Reason.JOB_NAME_CONFLICT
    assert job.name in sim.jobs


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ErrImagePull", "401 Unauthorized", Reason.IMAGE_PULL_FAILED),
        ("ImagePullBackOff", 'Back-off pulling image "x"', Reason.IMAGE_PULL_FAILED),
        ("CreateContainerConfigError", 'secret "s3-train" not found', Reason.SECRET_NOT_FOUND),
    ],
)
def test_the_message_of_a_waiting_container_is_in_the_condition(reason: str, message: str, expected: Reason) -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, waiting_reason=reason, waiting_message=message)
    sim.settle()
    root = next(item for item in sim.read().conditions if item.type == "Succeeded")
    assert root.status == "Unknown"
    assert root.reason is expected
    assert message in root.message
    assert any(item.type == "Stalled" for item in sim.read().conditions)


def test_the_registrys_error_is_kept_while_the_kubelet_backs_off() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, waiting_reason="ErrImagePull", waiting_message="401 Unauthorized")
    sim.settle()
    sim.pod_of(job, waiting_reason="ImagePullBackOff", waiting_message="Back-off pulling image")
    writes = sim.writes
    sim.settle()
    assert "401" in sim.read().message
    assert sim.writes == writes


def test_P24_an_imported_image_that_is_gone_is_told_with_the_command_that_brings_it_back() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    refused = 'Failed to pull image "localhost/atoll/train:1": Head "http://localhost/v2/": connection refused'
    sim.pod_of(job, waiting_reason="ErrImagePull", waiting_message=refused)
    sim.settle()
    message = sim.read().message
    assert refused in message
    assert "`make load`" in message
    sim.pod_of(job, waiting_reason="ErrImagePull", waiting_message='Failed to pull image "registry.example/train": 401')
    sim.settle()
    assert "make load" not in sim.read().message


def test_a_missing_secret_that_only_an_event_names_fails_the_run() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    message = 'FailedMount: MountVolume.SetUp failed for volume "files-0" : secret "s3" not found'
    sim.pod_of(job, warning=message)
    sim.settle()
    assert sim.read().reason is Reason.SECRET_NOT_FOUND
    sim.pass_time(121)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert 'secret "s3" not found' in sim.read().message
    assert sim.active_job() is None


def test_an_invalid_image_name_fails_at_once() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, waiting_reason="InvalidImageName", waiting_message="couldn't parse image name")
    sim.settle()
    assert sim.read().reason is Reason.IMAGE_PULL_FAILED
    assert sim.read().phase is Phase.FAILED


def test_an_unschedulable_pod_waits_until_the_pending_deadline() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    message = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu"
    sim.pod_of(job, unschedulable=message)
    sim.pass_time(1700)
    sim.settle()
    assert sim.read().reason is Reason.UNSCHEDULABLE
    assert sim.read().phase is Phase.TRAINING
    sim.pass_time(200)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert message in sim.read().message


def test_the_pending_deadline_pauses_while_another_run_holds_the_resource() -> None:
    sim = at_train(queue=QueueView(others_active=True))
    job = sim.active_job()
    assert job is not None
    sim.pod_of(job, unschedulable="Insufficient nvidia.com/gpu")
    sim.pass_time(10_000)
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    sim.run = replace(sim.run, queue=QueueView())
    sim.settle()
    sim.pass_time(1799)
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    sim.pass_time(2)
    sim.settle()
    assert sim.read().phase is Phase.FAILED


def test_a_job_that_kueue_holds_waits_without_deadline() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.jobs[job.name] = replace(job, state=JobState.SUSPENDED)
    sim.pass_time(20_000)
    sim.settle()
    assert sim.read().reason is Reason.QUEUED
    assert not sim.read().is_terminal


def test_a_pod_that_never_starts_exceeds_the_start_timeout() -> None:
    sim = at_train()
    sim.pass_time(1801)
    sim.settle()
    assert sim.read().reason is Reason.START_TIMEOUT


def test_a_running_pod_has_no_pending_deadline() -> None:
    sim = at_train()
    sim.start()
    sim.settle()
    sim.pass_time(20_000)
    sim.settle()
    assert sim.read().phase is Phase.TRAINING


def test_out_of_memory_is_not_retried() -> None:
    sim = at_train()
    sim.fail(Reason.INTERNAL_ERROR, code=137, message="", terminated_reason="OOMKilled")
    sim.settle()
    assert sim.read().reason is Reason.OUT_OF_MEMORY
    assert "batchSize" in sim.read().message


def test_an_oom_kill_with_exit_code_zero_is_out_of_memory() -> None:
    sim = at_train()
    job = sim.succeed()
    sim.pod_of(job, terminated_reason="OOMKilled")
    sim.settle()
    assert sim.read().reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("message", "reason", "phase"),
    [
        ('Usage of EmptyDir volume "work" exceeds the limit "20Gi".', Reason.EPHEMERAL_STORAGE_EXCEEDED, Phase.FAILED),
        ("The node was low on resource: memory.", Reason.EVICTED, Phase.TRAINING),
    ],
)
def test_an_evicted_pod_fails_or_retries_by_what_it_exceeded(message: str, reason: Reason, phase: Phase) -> None:
    sim = at_train()
    job = sim.fail(Reason.INTERNAL_ERROR, code=137, message="")
    job = next(item for item in sim.jobs.values() if item.name == job.name)
    sim.pod_of(job, reason="Evicted", message=message, exit_code=None)
    sim.settle()
    assert sim.read().phase is phase
    assert sim.stage(Stage.TRAIN).last_failure.reason is reason
    assert message in sim.stage(Stage.TRAIN).last_failure.message


def test_a_lost_node_is_named_and_waited_for() -> None:
    sim = at_train()
    job = sim.start()
    sim.pod_of(job, node_lost="node pi-3 is unreachable since 18:03")
    sim.settle()
    assert sim.read().reason is Reason.NODE_LOST
    assert "pi-3" in sim.read().message
    sim.pass_time(20_000)
    sim.settle()
    assert not sim.read().is_terminal


def test_disruptions_are_not_counted_up_to_a_limit() -> None:
    sim = at_train(backoff_limit=0)
    job = sim.start()
    for number in range(20):
        name = f"disrupted-{number}"
        sim.pods[name] = PodView(name, name, job.name, PodPhase.FAILED, sim.now, disruption="drained")
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    sim.pods["one-more"] = PodView("one-more", "x", job.name, PodPhase.FAILED, sim.now, disruption="drained")
    sim.settle()
    assert sim.read().reason is Reason.TOO_MANY_DISRUPTIONS


def test_a_rejected_job_quotes_the_admission_policy() -> None:
    sim = RunSimulation()
    plan = sim.reconcile(crash_before="create")
    name = f"note-convert-{plan.create[0].attempt}-0123abcd"
    # The engine gives a refused creation as a REJECTED view.
    sim.jobs[name] = JobView(
        name,
        "",
        UID,
        Stage.CONVERT,
        1,
        JobState.REJECTED,
        sim.now,
        failure_message="policy no-root denied the request",
    )
    sim.settle()
    assert sim.read().reason is Reason.INVALID_SPEC
    assert "no-root" in sim.read().message


def test_an_exhausted_quota_is_waited_for_and_quoted() -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    message = 'pods "x" is forbidden: exceeded quota: gpu-quota, requested: nvidia.com/gpu=1, used: 4, limited: 4'
    sim.jobs[job.name] = replace(job, create_error=message)
    sim.settle()
    assert sim.read().reason is Reason.QUOTA_EXCEEDED
    assert message in sim.read().message
    assert not sim.read().is_terminal


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('pods "x" is forbidden: failed quota: q: must specify limits.cpu for: train', "LimitRange with defaults"),
        ('pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2', "do not go together"),
    ],
)
def test_limits_of_the_namespace_are_an_event_at_once(message: str, advice: str) -> None:
    sim = at_train()
    job = sim.active_job()
    assert job is not None
    sim.events.clear()
    sim.jobs[job.name] = replace(sim.jobs[job.name], create_error=message)
    sim.settle()
    assert not sim.read().is_terminal
    assert sim.read().reason is Reason.INVALID_SPEC
    warned = [event for event in sim.events if event.type == "Warning"]
    assert [event.reason for event in warned] == ["InvalidSpec"]
    assert message in warned[0].message
    assert advice in warned[0].message
    assert "resources.train and resources.export" in warned[0].message
    sim.pass_time(121)
    sim.settle()
    assert sim.read().phase is Phase.FAILED


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "{}",
        '{"schemaVersion":1,"stage":"train","attempt":1,"reason":7,"message":""}',
        '{"schemaVersion":1,"stage":"export","attempt":1,"reason":"Completed","message":""}',
        '{"schemaVersion":1,"stage":"train","attempt":7,"reason":"Completed","message":""}',
        '{"stage":"train","attempt":1,"reason":"Completed","message":"","outputs":{"evil":1}}',
    ],
)
def test_a_malformed_result_is_not_a_success(message: str) -> None:
    sim = at_train(backoff_limit=0)
    sim.succeed(message=message)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    assert sim.read().reason is Reason.RESULT_MISSING


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
    sim = at_train()
    outputs = (Artifact("weights", key, "a" * 64, 1),)
    result = StageResult("train", 1, Reason.COMPLETED, "done", outputs)
    sim.succeed(message=result.termination_message().decode())
    sim.settle()
    assert sim.read().reason is Reason.INTEGRITY_MISMATCH
    assert sim.stage(Stage.TRAIN).outputs == ()


def test_an_artifact_of_an_earlier_stage_may_be_handed_on() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.EXPORT)
    sim.settle()
    handed_on = outputs_of(Stage.CONVERT)
    result = StageResult("export", 1, Reason.COMPLETED, "done", (*outputs_of(Stage.EXPORT), *handed_on))
    sim.succeed(result.termination_message().decode())
    sim.settle()
    assert sim.stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED


def test_another_namespaces_cache_is_refused() -> None:
    sim = RunSimulation()
    sim.settle()
    outputs = (Artifact("dataset", "cache/other/datasets/x/dataset.json", "a" * 64, 1),)
    sim.succeed(StageResult("convert", 1, Reason.COMPLETED, "done", outputs).termination_message().decode())
    sim.settle()
    assert sim.read().reason is Reason.INTEGRITY_MISMATCH


def test_the_warnings_of_the_data_are_in_the_status() -> None:
    sim = RunSimulation()
    sim.settle()
    summary = {"pictures": 9, "warnings": ["2 pictures were left out: their files are missing"]}
    result = StageResult("convert", 1, Reason.COMPLETED, "done", outputs_of(Stage.CONVERT), summary)
    sim.succeed(result.termination_message().decode())
    sim.settle()
    dataset = sim.read().dataset
    assert dataset is not None
    assert dataset.warnings == ("2 pictures were left out: their files are missing",)


def test_a_hostile_summary_is_ignored() -> None:
    sim = RunSimulation()
    sim.settle()
    texts = [7, "\x1b[2J", *("w" * 900 for _ in range(9))]
    summary = {
        "pictures": "many",
        "warnings": texts,
        "classes": [1, {"name": 5}, {"name": "x" * 500, "boxes": -1}],
        "digest": 7,
    }
    result = StageResult("convert", 1, Reason.COMPLETED, "done\x00\x1b[2J", outputs_of(Stage.CONVERT), summary)
    sim.succeed(to_json(result).decode())
    sim.settle()
    dataset = sim.read().dataset
    assert dataset is not None
    assert dataset.pictures == 0
    assert [len(text) for text in dataset.warnings or ()] == [4, 240, 240, 240, 240]
    assert [(item.name[:3], item.boxes) for item in dataset.classes] == [("xxx", 0)]
    assert "\x1b" not in sim.stage(Stage.CONVERT).message


def test_the_exit_code_wins_over_a_result_that_contradicts_it() -> None:
    sim = at_train(backoff_limit=0)
    sim.fail(Reason.INTERNAL_ERROR, code=40, message=success(Stage.TRAIN, 1))
    sim.settle()
    assert sim.read().reason is Reason.TRAINING_DIVERGED


def test_a_killed_stage_without_a_message_is_named_by_its_signal() -> None:
    sim = at_train()
    sim.fail(Reason.INTERNAL_ERROR, code=137, message="")
    sim.settle()
    assert "signal 9" in sim.read().message
    assert sim.read().phase is Phase.TRAINING


class TestPublish:
    def at_publish(self) -> RunSimulation:
        sim = RunSimulation()
        sim.to_stage(Stage.PUBLISH)
        sim.settle()
        return sim

    def test_the_version_is_reserved_before_the_job_exists(self) -> None:
        sim = RunSimulation(releases={1: "other", 2: "other"})
        sim.to_stage(Stage.EXPORT)
        sim.succeed()
        plan = sim.reconcile()
        assert plan.reserve is not None
        assert plan.reserve.name == "note-v3"
        assert plan.reserve.model_digest == "sha256:" + "a" * 64
        assert not plan.create
        sim.settle()
        assert sim.requests["note-compile-1-0123abcd"].version == 3

    def test_a_failed_publish_keeps_its_version(self) -> None:
        sim = self.at_publish()
        sim.fail(Reason.STORAGE_UNAVAILABLE)
        sim.settle()
        sim.pass_time(300)
        sim.finish()
        assert sim.read().summary.release == "note-v1"
        assert set(sim.releases) == {1}

    def test_a_version_conflict_uses_the_free_version(self) -> None:
        sim = self.at_publish()
        message = failure(Stage.PUBLISH, 1, Reason.VERSION_CONFLICT, {"nextVersion": 8})
        sim.fail(Reason.VERSION_CONFLICT, message=message)
        sim.settle()
        sim.pass_time(5)
        sim.settle()
        assert sim.requests["note-publish-2-0123abcd"].version == 8
        sim.finish()
        assert sim.read().summary.release == "note-v8"
        assert sim.stage(Stage.PUBLISH).failures == 0
        assert sim.published == {8}

    def test_a_version_conflict_without_a_free_version_fails(self) -> None:
        sim = self.at_publish()
        sim.fail(Reason.VERSION_CONFLICT)
        sim.settle()
        assert sim.read().reason is Reason.VERSION_CONFLICT

    def test_another_versions_manifest_is_refused(self) -> None:
        sim = self.at_publish()
        sim.succeed(version=7)
        sim.settle()
        assert sim.read().reason is Reason.INTEGRITY_MISMATCH
        assert not sim.published

    def test_a_lost_release_status_is_written_again(self) -> None:
        sim = self.at_publish()
        sim.succeed()
        sim.reconcile(crash_before="release_status")
        assert not sim.published
        sim.reconcile(crash_before="status")
        assert sim.published == {1}
        sim.settle()
        assert sim.read().phase is Phase.SUCCEEDED
