"""Pods are read seldom, and never too seldom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from atoll_contract.stage import Stage
from atoll_operator.controller.cache import READINGS_SECONDS, Cache, PodReading
from atoll_operator.controller.pods import (
    BUSY_SECONDS,
    EVENTS_SHARE,
    READINGS_SHARE,
    SILENT_QUEUE_SECONDS,
    PodReader,
)
from atoll_operator.controller.workqueue import MAX_SAVED_SECONDS
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import Forbidden
from atoll_operator.kube.objects import EVENTS, NODES, PODS, WORKLOADS, Resource
from atoll_operator.lifecycle.model import JobState, JobView, PollIntervals

Body = dict[str, Any]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Objects:
    """The pods, Events and nodes of a small cluster, and how often the pods were asked for."""

    def __init__(self, clock: Clock) -> None:
        # What a call costs.
        self.seconds = 0.0
        self._clock = clock
        self.pods: list[Body] = []
        self.events: list[Body] = []
        self.node: Body | None = None
        self.log = ""
        # The containers whose logs were asked for.
        self.containers: list[str] = []
        self.reads = 0
        self.event_reads = 0
        self.may_read_events = True
        # By resource, as Kueue may serve only one version.
        self.workloads: dict[Resource, Body] = {}
        self.workload_reads = 0
        self.may_read_workloads = True

    def list_all(self, resource: Resource, namespace: str, *, labels: str = "", fields: str = "") -> list[Body]:
        self._clock.now += self.seconds
        if resource is PODS:
            self.reads += 1
            return self.pods
        if resource in WORKLOADS:
            assert labels == "kueue.x-k8s.io/job-uid=job-uid"
            self.workload_reads += 1
            if not self.may_read_workloads:
                raise Forbidden("list workloads", "forbidden", status=403)
            return [self.workloads[resource]] if resource in self.workloads else []
        assert resource is EVENTS
        self.event_reads += 1
        if not self.may_read_events:
            raise Forbidden("get events", "forbidden", status=403)
        return self.events

    def read(self, resource: Resource, namespace: str | None, name: str) -> Body | None:
        assert resource is NODES
        return self.node

    def read_log_tail(self, namespace: str, pod: str, *, container: str, lines: int) -> str:
        self.containers.append(container)
        return self.log


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def objects(clock: Clock) -> Objects:
    return Objects(clock)


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache(clock)


@pytest.fixture
def reader(objects: Objects, cache: Cache, clock: Clock) -> PodReader:
    return PodReader(cast(Cluster, objects), cache, PollIntervals(), TimeSource(monotonic=clock))


def job(*, age: float = 10, state: JobState = JobState.ACTIVE) -> JobView:
    created = datetime.now(UTC) - timedelta(seconds=age)
    return JobView("note-train-1-abc", "job-uid", "run-uid", Stage.TRAIN, 1, state, created)


def pod(phase: str, *, job_uid: str = "job-uid", **spec: Any) -> Body:
    owner = {"kind": "Job", "name": "note-train-1-abc", "uid": job_uid, "controller": True}
    state = {"running": {"startedAt": "2027-01-09T12:00:01Z"}} if phase == "Running" else {}
    return {
        "metadata": {
            "namespace": "team",
            "name": "note-train-1-abc-x",
            "uid": "pod-uid",
            "creationTimestamp": "2027-01-09T12:00:00Z",
            "labels": {"atoll.dev/run": "note", "atoll.dev/run-uid": "run-uid"},
            "ownerReferences": [owner],
        },
        "spec": {"containers": [{"name": "export"}], **spec},
        "status": {"phase": phase, "containerStatuses": [{"name": "export", "state": state}]},
    }


def read(reader: PodReader, view: JobView, *, recorded: bool = False) -> PodReading:
    return reader.read("team", view, recorded=recorded)


def test_a_young_jobs_pods_are_not_read_yet(reader: PodReader, objects: Objects) -> None:
    reading = read(reader, job(age=1))
    assert objects.reads == 0
    assert reading.requeue_after == pytest.approx(2, abs=0.5)


def test_starting_pods_are_read_every_five_seconds(reader: PodReader, objects: Objects, clock: Clock) -> None:
    objects.pods = [pod("Pending")]
    for _ in range(10):
        assert read(reader, job()).pods
        clock.now += 1
    assert objects.reads == 2


def test_running_pods_are_read_every_thirty_seconds_with_their_log(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    objects.pods, objects.log = [pod("Running")], 'ATOLL_PROGRESS {"percent":40.0}\n'
    for _ in range(60):
        progress = read(reader, job()).pods[0].progress
        assert progress is not None
        clock.now += 1
    assert objects.reads == 2


def test_of_several_workers_only_the_first_ones_log_is_read(reader: PodReader, objects: Objects) -> None:
    objects.pods, objects.log = [pod("Running"), pod("Running")], 'ATOLL_PROGRESS {"percent":40.0}\n'
    for index, body in enumerate(objects.pods):
        body["metadata"]["labels"] |= {
            "atoll.dev/stage": "train",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
    first, second = read(reader, job()).pods
    assert (first.index, second.index) == (0, 1)
    assert first.progress is not None
    assert second.progress is None


def test_a_container_that_has_said_nothing_yet_is_read_soon_again(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    """It may be waiting for its store, which its user wants to know within seconds."""
    objects.pods = [pod("Running")]
    started = datetime.now(UTC) - timedelta(seconds=2)
    objects.pods[0]["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = f"{started:%Y-%m-%dT%H:%M:%SZ}"
    assert read(reader, job()).requeue_after == PollIntervals().starting
    clock.now += PollIntervals().starting
    objects.log = 'ATOLL_PROGRESS {"percent":0,"waiting":"the store does not answer"}\n'
    reading = read(reader, job())
    assert reading.requeue_after == PollIntervals().running
    assert reading.pods[0].progress is not None
    assert reading.pods[0].progress.waiting == "the store does not answer"


def test_a_container_that_never_says_anything_is_read_seldom(reader: PodReader, objects: Objects) -> None:
    objects.pods = [pod("Running")]
    assert read(reader, job(age=600)).requeue_after == PollIntervals().running


def shared_pod() -> Body:
    """A pod whose init container runs, so that the pod itself is pending and not ready."""
    body = pod("Pending", nodeName="pc")
    body["spec"]["initContainers"] = [{"name": "train"}]
    body["status"]["initContainerStatuses"] = [{"name": "train", "state": {"running": {}}}]
    return body


def test_progress_of_an_init_container_comes_from_its_own_log(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    objects.pods, objects.log = [shared_pod()], 'ATOLL_PROGRESS {"percent":40.0}\n'
    for _ in range(60):
        train, export = read(reader, job()).pods
        assert train.progress is not None
        assert (export.progress, train.node_lost) == (None, "")
        clock.now += 1
    assert (objects.reads, objects.event_reads, set(objects.containers)) == (2, 0, {"train"})


def test_an_init_container_without_a_log_may_be_on_a_lost_node(reader: PodReader, objects: Objects) -> None:
    silent = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting", "lastTransitionTime": "T"}
    objects.pods, objects.node = [shared_pod()], {"status": {"conditions": [silent]}}
    assert {view.node_lost for view in read(reader, job()).pods} == {"node pc: Kubelet stopped posting since T"}


def test_a_finished_jobs_pods_are_read_at_once_and_no_more_when_its_end_is_recorded(
    reader: PodReader, objects: Objects
) -> None:
    objects.pods = [pod("Running")]
    read(reader, job())
    done = job(state=JobState.SUCCEEDED)
    objects.pods = [pod("Succeeded")]
    assert read(reader, done).pods[0].is_finished
    assert read(reader, done, recorded=True) == PodReading(done)
    assert objects.reads == 2


def test_jobs_that_nobody_asks_for_any_more_are_forgotten(
    reader: PodReader, cache: Cache, objects: Objects, clock: Clock
) -> None:
    objects.pods = [pod("Pending")]
    read(reader, job())
    clock.now += 2 * READINGS_SECONDS
    read(reader, replace(job(), uid="another"))
    assert len(cache.pod_readings) == 1
    assert cache.pod_readings.get("another")


def test_the_last_reading_stays_while_the_reader_is_busy_for_long(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    objects.pods = [pod("Running")]
    read(reader, job())
    # One very slow call uses up the time of the next half hour.
    objects.seconds = 1200.0
    objects.pods = [pod("Running", job_uid="another")]
    read(reader, replace(job(), uid="another"))
    assert reader.is_busy
    reading = read(reader, job())
    assert (len(reading.pods), reading.requeue_after, objects.reads) == (1, BUSY_SECONDS, 2)


def test_a_job_without_pods_has_the_message_of_its_controller(reader: PodReader, objects: Objects) -> None:
    objects.events = [
        {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota: gpu", "metadata": {}},
        {"type": "Warning", "reason": "Other", "message": "x", "lastTimestamp": "2027-01-09T12:00:00Z", "metadata": {}},
    ]
    assert read(reader, job()).job.create_error == "FailedCreate: exceeded quota: gpu"


def test_a_mount_that_fails_is_a_warning_of_its_pod(reader: PodReader, objects: Objects) -> None:
    objects.pods = [pod("Pending", nodeName="pc")]
    message = 'MountVolume.SetUp failed for volume "files-0": secret "s3" not found'
    objects.events = [{"type": "Warning", "reason": "FailedMount", "message": message, "metadata": {}}]
    assert read(reader, job()).pods[0].warning == f"FailedMount: {message}"


def test_without_the_right_to_read_events_the_rest_is_read(reader: PodReader, objects: Objects) -> None:
    objects.pods, objects.may_read_events = [pod("Pending", nodeName="pc")], False
    assert read(reader, job()).pods[0].warning == ""


def test_a_pod_that_stays_in_deletion_on_a_silent_node_is_lost(reader: PodReader, objects: Objects) -> None:
    stuck = pod("Running", nodeName="pc")
    stuck["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    silent = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting", "lastTransitionTime": "T"}
    objects.pods, objects.node = [stuck], {"status": {"conditions": [silent]}}
    assert read(reader, job()).pods[0].node_lost == "node pc: Kubelet stopped posting since T"


def test_very_many_starting_pods_are_read_in_turn(reader: PodReader, objects: Objects, clock: Clock) -> None:
    objects.seconds = 0.1

    def read_starting(view: JobView) -> float | None:
        objects.pods = [pod("Pending", job_uid=view.uid)]
        return read(reader, view).requeue_after

    many = [replace(job(), name=f"job-{number}", uid=f"uid-{number}") for number in range(1000)]
    idle, begin = not reader.is_busy, clock.now
    waits = [read_starting(view) for view in many]
    saved_up = round((MAX_SAVED_SECONDS + (clock.now - begin) * READINGS_SHARE) / objects.seconds)
    assert objects.reads == pytest.approx(saved_up, abs=1)
    assert waits[-1] == BUSY_SECONDS
    assert idle
    assert reader.is_busy
    clock.now += 10
    for view in many:
        read_starting(view)
    assert objects.reads == pytest.approx(saved_up + 10 * READINGS_SHARE / objects.seconds, abs=2)


def test_events_are_read_more_seldom_still_and_the_last_warning_stays(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    objects.pods = [pod("Pending", nodeName="pc")]
    objects.events = [{"type": "Warning", "reason": "FailedMount", "message": "no secret", "metadata": {}}]
    for _ in range(100):
        assert read(reader, job()).pods[0].warning == "FailedMount: no secret"
        clock.now += 1
    # Every five seconds, and each time with its Events.
    assert (objects.reads, objects.event_reads) == (20, 20)
    objects.event_reads, objects.seconds, begin = 0, 1.0, clock.now
    for number in range(100):
        read(reader, replace(job(), uid=f"uid-{number}"))
        clock.now += 10
    assert (
        objects.event_reads * objects.seconds
        <= MAX_SAVED_SECONDS + (clock.now - begin) * EVENTS_SHARE + objects.seconds
    )


def test_a_pod_whose_success_was_watched_is_not_read(reader: PodReader, cache: Cache, objects: Objects) -> None:
    cache.put_run({"metadata": {"namespace": "team", "name": "note", "uid": "run-uid"}})
    cache.put_succeeded_pod(pod("Succeeded"))
    assert read(reader, job(state=JobState.SUCCEEDED)).pods[0].name == "note-train-1-abc-x"
    assert objects.reads == 0
    # Of a Job that failed all the same, every pod matters.
    read(reader, job(state=JobState.FAILED))
    assert objects.reads == 1
    read(reader, job(state=JobState.SUCCEEDED), recorded=True)
    assert cache.succeeded_pod("team", "job-uid") == ()


def test_the_pods_of_an_indexed_job_are_listed_at_its_end_and_index_0_is_known_where_it_is_gone(
    reader: PodReader, objects: Objects, cache: Cache
) -> None:
    bodies = []
    for index in range(2):
        body = pod("Succeeded")
        body["metadata"] |= {"name": f"pod-{index}", "uid": f"pod-{index}"}
        body["metadata"]["labels"] |= {"batch.kubernetes.io/job-completion-index": str(index)}
        bodies.append(body)
    cache.put_run(
        {
            "metadata": {"namespace": "team", "name": "note", "uid": "run-uid", "resourceVersion": "1"},
            "status": {"phase": "Training"},
        }
    )
    cache.put_succeeded_pod(bodies[0])
    for there in (bodies, bodies[1:]):
        objects.pods = there
        views = read(reader, job(state=JobState.SUCCEEDED)).pods
        assert sorted((view.name, view.index) for view in views) == [("pod-0", 0), ("pod-1", 1)]
    assert objects.reads == 2


def test_the_pods_of_finished_jobs_are_read_however_many_they_are(reader: PodReader, objects: Objects) -> None:
    for number in range(100):
        objects.pods = [pod("Succeeded", job_uid=f"uid-{number}")]
        assert read(reader, replace(job(state=JobState.SUCCEEDED), uid=f"uid-{number}")).pods
    assert objects.reads == 100


def test_O20_a_pod_that_only_bears_the_jobs_label_is_not_the_jobs(reader: PodReader, objects: Objects) -> None:
    objects.pods = [pod("Running", job_uid="another"), pod("Pending")]
    assert [found.phase for found in read(reader, job()).pods] == ["Pending"]


def test_O25_the_pods_and_events_of_a_suspended_job_are_not_read(reader: PodReader, objects: Objects) -> None:
    objects.pods = [pod("Running")]
    assert read(reader, job()).pods
    objects.reads = objects.event_reads = 0
    suspended = read(reader, job(state=JobState.SUSPENDED))
    assert suspended.pods == ()
    assert (objects.reads, objects.event_reads) == (0, 0)
    # Its pods of before are gone.
    objects.pods = []
    assert read(reader, job()).pods == ()


def test_the_pods_of_a_job_that_the_run_stops_are_read_once_more(
    reader: PodReader, objects: Objects, clock: Clock
) -> None:
    objects.pods = [pod("Running")]
    reader.read("team", job(), recorded=False)
    clock.now += 20
    ended = pod("Failed")
    state = {"terminated": {"exitCode": 1, "startedAt": "2027-01-09T12:00:00Z", "finishedAt": "2027-01-09T12:00:09Z"}}
    ended["status"]["containerStatuses"] = [{"name": "export", "state": state}]
    objects.pods = [ended]
    (seen,) = reader.read("team", job(), recorded=False, stops=True).pods
    assert seen.finished == datetime(2027, 1, 9, 12, 0, 9, tzinfo=UTC)
    assert objects.reads == 2
    # Where the deletion takes its time, they are not read again and again.
    clock.now += 3
    reader.read("team", replace(job(), deleting=True), recorded=False, stops=True)
    assert objects.reads == 2


def workload(**conditions: tuple[str, str, str]) -> Body:
    """Kueue's Workload of the Job, with status, reason and message of its conditions."""
    told = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    return {"metadata": {"name": "job-note"}, "spec": {"queueName": "gpu"}, "status": {"conditions": told}}


FULL = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor any, 1 more needed"
PENDING = {"QuotaReserved": ("False", "Pending", FULL)}
EVICTED = {"Evicted": ("True", "Preempted", "Preempted to accommodate a workload (UID: 7)")}


@pytest.mark.parametrize("version", WORKLOADS, ids=lambda version: version.path)
def test_a_held_job_has_the_words_of_its_queue(reader: PodReader, objects: Objects, version: Resource) -> None:
    objects.workloads[version] = workload(**PENDING)
    reading = read(reader, job(state=JobState.SUSPENDED))
    assert reading.job.queue_message == f"waits in queue gpu: {FULL}"
    assert reading.requeue_after is None


def test_a_job_that_is_taken_out_of_its_queue_says_so(reader: PodReader, objects: Objects) -> None:
    objects.workloads[WORKLOADS[0]] = workload(**PENDING, **EVICTED)
    told = read(reader, job(state=JobState.SUSPENDED)).job.queue_message
    assert told == "was taken out of queue gpu (Preempted): Preempted to accommodate a workload (UID: 7)"


def test_O25_a_queue_is_asked_until_it_says_something(reader: PodReader, objects: Objects, clock: Clock) -> None:
    held = job(state=JobState.SUSPENDED)
    objects.workloads[WORKLOADS[0]] = workload()
    assert read(reader, held).requeue_after == PollIntervals().starting
    objects.workloads[WORKLOADS[0]] = workload(**PENDING)
    clock.now += PollIntervals().starting
    assert read(reader, held).requeue_after is None
    reads = objects.workload_reads
    for _ in range(10):
        clock.now += 300
        assert read(reader, held).job.queue_message
    assert objects.workload_reads == reads


def test_O25_a_queue_that_stays_silent_is_asked_no_more(reader: PodReader, objects: Objects, clock: Clock) -> None:
    held = job(state=JobState.SUSPENDED)
    while read(reader, held).requeue_after is not None:
        clock.now += PollIntervals().starting
    assert clock.now - 1000 == pytest.approx(SILENT_QUEUE_SECONDS, abs=2 * PollIntervals().starting)
    reads = objects.workload_reads
    clock.now += 3600
    assert read(reader, held) == PodReading(held)
    assert objects.workload_reads == reads


def test_a_job_that_is_held_again_is_asked_about_again(reader: PodReader, objects: Objects) -> None:
    objects.workloads[WORKLOADS[0]] = workload(**PENDING)
    read(reader, job(state=JobState.SUSPENDED))
    objects.pods = [pod("Running")]
    assert read(reader, job()).job.queue_message == ""
    objects.workloads[WORKLOADS[0]] = workload(**EVICTED)
    assert "Preempted" in read(reader, job(state=JobState.SUSPENDED)).job.queue_message


def test_without_the_right_to_read_workloads_a_job_is_held_all_the_same(reader: PodReader, objects: Objects) -> None:
    objects.may_read_workloads = False
    reading = read(reader, job(state=JobState.SUSPENDED))
    assert (reading.job.queue_message, objects.workload_reads) == ("", 1)
