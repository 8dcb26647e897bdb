"""Jobs and pods as a real API server writes them, into views."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_operator.kube.objects import job_view
from atoll_operator.kube.pod_views import (
    PodDetails,
    lost_node,
    may_be_lost,
    newest_warning,
    pod_views,
    running_container,
)
from atoll_operator.lifecycle.model import JobState, PodPhase, PodView

Body = dict[str, Any]
NOON = datetime(2027, 1, 9, 12, 0, tzinfo=UTC)


def job(*conditions: Body, suspend: bool = False) -> Body:
    return {
        "metadata": {
            "name": "note-train-1-3f9a0c1d",
            "uid": "job-uid",
            "creationTimestamp": "2027-01-09T11:58:00Z",
            "ownerReferences": [{"kind": "TrainingRun", "uid": "run-uid", "controller": True}],
        },
        "spec": {"suspend": suspend},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, *, status: str = "True", reason: str = "", message: str = "") -> Body:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2027-01-09T11:59:00Z",
    }


def pod(*, phase: str = "Running", container: Body | None = None, **status: Any) -> Body:
    statuses = [{"name": "istio-proxy", "state": {"running": {}}}]
    if container is not None:
        statuses.append({"name": "stage", "state": container})
    return {
        "metadata": {"name": "note-train-1-abc", "uid": "pod-uid", "creationTimestamp": "2027-01-09T11:58:01Z"},
        "spec": {"containers": [{"name": "stage"}, {"name": "istio-proxy"}], "nodeName": "pc"},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def only_view(body: Body, *, job: str, details: PodDetails | None = None) -> PodView:
    """The view of a pod of one stage, whose container bears the name that an earlier version gave it."""
    (view,) = pod_views(body, job=job, details=details)
    assert view.stage is None
    return view


def shared_pod(train: Body, export: Body, *, phase: str = "Pending", **status: Any) -> Body:
    """A pod of two stages as the kubelet reports it, with containers that others put into it."""
    init = [{"name": "istio-init", "state": {"terminated": {"exitCode": 0}}}, {"name": "train", "state": train}]
    last = [{"name": "istio-proxy", "state": {"running": {}}}, {"name": "export", "state": export}]
    body = pod(phase=phase, **status)
    body["spec"]["initContainers"] = [{"name": "istio-init"}, {"name": "train"}]
    body["spec"]["containers"] = [{"name": "istio-proxy"}, {"name": "export"}]
    body["status"] |= {"initContainerStatuses": init, "containerStatuses": last}
    return body


def ended(code: int) -> Body:
    times = {"startedAt": "2027-01-09T11:58:10Z", "finishedAt": "2027-01-09T11:59:30Z"}
    return {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": "m", **times}}


WAITS: Body = {"waiting": {"reason": "PodInitializing"}}


def test_a_pod_of_an_indexed_job_has_its_index() -> None:
    body = shared_pod({}, {})
    for text, index in (("0", 0), ("12", 12), ("twelve", None)):
        labelled = {**body["metadata"], "labels": {"batch.kubernetes.io/job-completion-index": text}}
        assert [view.index for view in pod_views({**body, "metadata": labelled}, job="j")] == [index, index]


def test_while_the_init_container_runs_its_stage_is_running_and_the_next_one_waits() -> None:
    log = 'ATOLL_PROGRESS {"percent":20.0,"step":4}'
    body = shared_pod({"running": {"startedAt": "2027-01-09T11:58:10Z"}}, WAITS)
    train, export = pod_views(body, job="j", details=PodDetails(log=log))
    assert (train.stage, train.phase, train.progress) == (Stage.TRAIN, PodPhase.RUNNING, Progress(20.0, step=4))
    assert (export.stage, export.phase, export.waiting_reason, export.progress) == (
        Stage.EXPORT,
        PodPhase.PENDING,
        "",
        None,
    )
    assert running_container(body) == "train"


def test_each_stage_has_the_end_of_its_own_container() -> None:
    body = shared_pod(ended(0), {"running": {"startedAt": "2027-01-09T11:59:31Z"}}, phase="Running")
    train, export = pod_views(body, job="j")
    assert (train.phase, train.exit_code, train.termination_message) == (PodPhase.SUCCEEDED, 0, "m")
    assert train.finished == datetime(2027, 1, 9, 11, 59, 30, tzinfo=UTC)
    assert (export.phase, export.exit_code, export.started) == (
        PodPhase.RUNNING,
        None,
        datetime(2027, 1, 9, 11, 59, 31, tzinfo=UTC),
    )
    assert running_container(body) == "export"


def test_an_image_that_is_missing_for_the_second_stage_is_told_of_it_alone() -> None:
    body = shared_pod(ended(0), {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}})
    train, export = pod_views(body, job="j")
    assert (train.phase, train.waiting_reason) == (PodPhase.SUCCEEDED, "")
    assert (export.phase, export.waiting_reason) == (PodPhase.PENDING, "ImagePullBackOff")


def test_where_the_first_stage_fails_the_pod_has_failed_and_the_second_has_no_end() -> None:
    train, export = pod_views(shared_pod(ended(42), WAITS, phase="Failed"), job="j")
    assert (train.phase, train.exit_code) == (PodPhase.FAILED, 42)
    assert (export.phase, export.exit_code) == (PodPhase.FAILED, None)


def test_an_eviction_in_the_second_half_is_none_of_the_stage_that_has_succeeded() -> None:
    body = shared_pod(ended(0), ended(137), phase="Failed", reason="Evicted", message="low on memory")
    train, export = pod_views(body, job="j")
    assert (train.phase, train.reason, train.message) == (PodPhase.SUCCEEDED, "", "")
    assert (export.phase, export.reason) == (PodPhase.FAILED, "Evicted")


def test_an_eviction_in_the_first_half_is_told_of_the_stage_that_ran() -> None:
    train, _ = pod_views(shared_pod({}, {}, phase="Failed", reason="Evicted"), job="j")
    assert (train.phase, train.reason) == (PodPhase.FAILED, "Evicted")


def test_a_sidecar_keeps_the_last_stage_alone() -> None:
    train, export = pod_views(shared_pod(ended(0), ended(0), phase="Running"), job="j")
    assert (train.kept_by_another, export.kept_by_another) == (False, True)


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet")], JobState.ACTIVE),
        ([condition("FailureTarget")], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet"), condition("Complete")], JobState.SUCCEEDED),
        ([condition("FailureTarget"), condition("Failed", reason="PodFailurePolicy")], JobState.FAILED),
        ([condition("Failed", status="False")], JobState.ACTIVE),
    ],
)
def test_a_job_ends_with_complete_or_failed_only(conditions: list[Body], state: JobState) -> None:
    assert job_view(job(*conditions), stage=Stage.TRAIN, attempt=1).state is state


def test_a_failed_job_keeps_the_controllers_words_and_its_owner() -> None:
    view = job_view(
        job(condition("Failed", reason="DeadlineExceeded", message="too long")), stage=Stage.TRAIN, attempt=1
    )
    assert (view.failure_reason, view.failure_message) == ("DeadlineExceeded", "too long")
    assert (view.owner_uid, view.finished) == ("run-uid", datetime(2027, 1, 9, 11, 59, tzinfo=UTC))


def test_a_job_that_a_queue_holds_is_suspended() -> None:
    assert job_view(job(suspend=True), stage=Stage.TRAIN, attempt=1).state is JobState.SUSPENDED


def test_the_result_is_read_from_the_stage_and_not_from_a_sidecar() -> None:
    state = ended(0)
    state["terminated"]["message"] = '{"stage":"train"}'
    view = only_view(pod(phase="Succeeded", container=state), job="note-train-1-3f9a0c1d")
    assert (view.phase, view.exit_code, view.termination_message) == (PodPhase.SUCCEEDED, 0, '{"stage":"train"}')
    assert view.finished == datetime(2027, 1, 9, 11, 59, 30, tzinfo=UTC)


def test_a_pod_that_waits_says_why() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}
    view = only_view(pod(phase="Pending", container=waiting), job="j")
    assert (view.waiting_reason, view.waiting_message) == ("ImagePullBackOff", "no such host")


def test_a_container_that_is_being_created_is_no_problem() -> None:
    view = only_view(pod(phase="Pending", container={"waiting": {"reason": "ContainerCreating"}}), job="j")
    assert view.waiting_reason == ""


def test_the_schedulers_message_is_kept_and_a_scheduling_gate_is_no_problem() -> None:
    reported = condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes are available")
    gated = condition("PodScheduled", status="False", reason="SchedulingGated", message="by kueue")
    assert only_view(pod(phase="Pending", conditions=[reported]), job="j").unschedulable == "0/1 nodes are available"
    assert only_view(pod(phase="Pending", conditions=[gated]), job="j").unschedulable == ""


def test_progress_comes_from_the_log() -> None:
    log = 'ATOLL_PROGRESS {"percent":10.0}\nloading\nATOLL_PROGRESS {"percent":20.0,"step":4}\nATOLL_PROGRESS {"perc'
    view = only_view(pod(container={"running": {}}), job="j", details=PodDetails(log=log))
    assert view.progress == Progress(percent=20.0, step=4)


def test_a_drain_is_told_as_a_disruption() -> None:
    reported = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")
    assert only_view(pod(phase="Failed", conditions=[reported]), job="j").disruption == "Eviction API: evicting"


def test_the_newest_warning_is_chosen() -> None:
    def event(message: str, time: str, kind: str = "Warning") -> Body:
        return {"type": kind, "reason": "FailedMount", "message": message, "lastTimestamp": time, "metadata": {}}

    events = [
        event("old", "2027-01-09T11:00:00Z"),
        event('secret "s3" not found', "2027-01-09T11:30:00Z"),
        event("scheduled", "2027-01-09T11:40:00Z", kind="Normal"),
    ]
    assert newest_warning(events) == 'FailedMount: secret "s3" not found'
    assert newest_warning(events, reason="FailedCreate") == ""


def test_a_pod_long_past_its_deletion_may_be_on_a_lost_node() -> None:
    deleting = pod(container={"running": {}})
    deleting["metadata"]["deletionTimestamp"] = "2027-01-09T11:59:30Z"
    assert not may_be_lost(deleting, now=NOON)
    assert may_be_lost(deleting, now=NOON.replace(minute=1))


def test_a_running_pod_that_is_not_ready_may_be_on_a_lost_node() -> None:
    unready = pod(container={"running": {}}, conditions=[condition("Ready", status="False")])
    assert may_be_lost(unready, now=NOON)
    assert not may_be_lost(pod(container={"running": {}}, conditions=[condition("Ready")]), now=NOON)


def test_a_node_is_lost_when_its_kubelet_is_silent_or_it_is_gone() -> None:
    silent = {"status": {"conditions": [condition("Ready", status="Unknown", message="Kubelet stopped posting")]}}
    ready = {"status": {"conditions": [condition("Ready")]}}
    assert lost_node("pc", silent) == "node pc: Kubelet stopped posting since 2027-01-09T11:59:00Z"
    assert lost_node("pc", ready) == ""
    assert lost_node("pc", None) == "node pc is gone"


def test_a_pod_that_another_container_keeps_is_told_from_one_that_is_ending() -> None:
    first = pod(container=ended(0))
    first["spec"]["containers"].reverse()
    for body in (pod(container=ended(0)), first):
        seen = only_view(body, job="note-train-1")
        assert (seen.kept_by_another, seen.exit_code) == (True, 0)
    alone = pod(container=ended(0))
    alone["spec"]["containers"] = [{"name": "stage"}]
    for body in (alone, pod(container={"running": {}}), pod(phase="Succeeded", container=ended(0))):
        assert not only_view(body, job="note-train-1").kept_by_another
