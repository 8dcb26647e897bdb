"""A plan is carried out in its order, and a call that fails ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, RunStatus, StagePhase, StageStatus
from atoll_operator.config import Settings
from atoll_operator.controller.apply import EVENTS_SHARE, Applier
from atoll_operator.controller.cache import SNAPSHOTTED_SECONDS, Cache
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.observed import Observed, StateReader
from atoll_operator.controller.workqueue import MAX_SAVED_SECONDS
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import ClusterError, Conflict, Unavailable
from atoll_operator.kube.objects import EVENTS, JOBS, NETWORK_POLICIES, RELEASES, RUNS, SERVICES
from atoll_operator.lifecycle.conditions import events
from atoll_operator.lifecycle.model import JobState, StageAttempt
from atoll_operator.lifecycle.plan import EventType, JobToDelete, Plan, Reservation, RunEvent
from support.fake_cluster import FakeCluster, FakeServer
from support.fake_operator import add_run, prepared

ATTEMPT = StageAttempt(Stage.CONVERT, 1, upstream={}, active_deadline_seconds=600)
STATUS = RunStatus(message="a test")
NORMAL = RunEvent(EventType.NORMAL, "Started", "it has started")
WARNING = RunEvent(EventType.WARNING, "Failed", "it has failed")
RESERVATION = Reservation("note-v1", "note", 1, "stable", "sha256:0")


class World:
    """A run as it was read, and an Applier."""

    def __init__(self, settings: Settings, **spec: Any) -> None:
        self.server = prepared()
        cluster, self.cache = FakeCluster(self.server), Cache(self.server.clock)
        times = TimeSource(self.server.clock.now, self.server.clock)
        self.reader = StateReader(cluster, self.cache, settings, times)
        self.metrics = OperatorMetrics()
        self.applier = Applier(cluster, self.cache, self.reader.refs, settings, metrics=self.metrics, times=times)
        self.observed = self.reader.read(add_run(self.server, **spec))
        self.server.take_calls()

    def apply(self, plan: Plan) -> Observed:
        self.observed = self.applier.apply(self.observed, plan)
        return self.observed


@pytest.fixture
def world() -> World:
    return World(Settings())


def plan(**changes: object) -> Plan:
    return replace(Plan(status=STATUS), **changes)  # type: ignore[arg-type]


def test_the_status_is_written_before_the_job_is_created_and_events_come_last(world: World) -> None:
    observed = world.apply(plan(create=(ATTEMPT,), events=(NORMAL,)))
    assert world.server.take_calls() == ["update trainingruns/status", "create jobs", "create events"]
    assert [job.name for job in observed.jobs] == [job["metadata"]["name"] for job in world.server.all(JOBS)]
    assert observed.run == world.server.get(RUNS, "team", "note")
    (known,) = world.cache.jobs.get(observed.run_uid) or [{}]
    assert known["metadata"]["name"] == observed.jobs[0].name


TRAINING = StageAttempt(Stage.TRAIN, 1, upstream={}, active_deadline_seconds=600, accelerator="cpu")


def test_workers_have_their_names_and_a_closed_port_before_their_job_and_once_for_all_attempts() -> None:
    world = World(Settings(), training={"workers": 2, "batchSize": 4, "initFrom": {"type": "random"}})
    world.apply(plan(create=(TRAINING,)))
    beside = ["create services", "create networkpolicies"]
    assert world.server.take_calls() == ["update trainingruns/status", *beside, "create jobs"]
    world.apply(plan(create=(replace(TRAINING, attempt=2),)))
    assert world.server.take_calls() == [*beside, "create jobs"]
    assert len(world.server.all(SERVICES)) == len(world.server.all(NETWORK_POLICIES)) == 1
    (service,) = world.server.all(SERVICES)
    assert service["metadata"]["ownerReferences"][0]["uid"] == world.observed.ref.uid


def test_without_the_right_to_close_the_port_there_are_no_workers() -> None:
    world = World(Settings(), training={"workers": 2, "batchSize": 4, "initFrom": {"type": "random"}})
    world.server.fail("create networkpolicies", 403)
    with pytest.raises(ClusterError):
        world.apply(plan(create=(TRAINING,)))
    assert world.server.all(JOBS) == []


def test_a_status_that_is_there_already_is_not_written_again(world: World) -> None:
    world.apply(plan())
    world.apply(plan())
    assert world.server.take_calls() == ["update trainingruns/status"]


def test_a_reservation_is_carried_out_alone(world: World) -> None:
    observed = world.apply(plan(reserve=RESERVATION, create=(ATTEMPT,), events=(NORMAL,)))
    assert world.server.take_calls() == ["create modelreleases"]
    assert [release["metadata"]["name"] for release in observed.releases or ()] == ["note-v1"]


def test_a_version_that_is_taken_is_read_with_its_owner(world: World) -> None:
    world.apply(plan(reserve=RESERVATION))
    taken = world.server.all(RELEASES)
    world.observed = replace(world.observed, releases=None)
    assert world.apply(plan(reserve=RESERVATION)).releases == tuple(taken)


def test_a_snapshot_is_created_once_a_minute_at_most(world: World) -> None:
    for _ in range(2):
        world.apply(plan(snapshot_profile=True))
    assert world.server.take_calls().count("create controllerrevisions") == 1
    world.server.clock.advance(SNAPSHOTTED_SECONDS)
    world.apply(plan(snapshot_profile=True))
    assert world.server.take_calls().count("create controllerrevisions") == 1


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda server: server.fail("update trainingruns/status", 500), Unavailable),
        (lambda server: server.fail("update trainingruns/status", 404), Conflict),
        (lambda server: server.fail("create jobs", 503), Unavailable),
    ],
    ids=["status", "deleted meanwhile", "job"],
)
def test_a_call_that_fails_ends_the_plan(
    world: World, fail: Callable[[FakeServer], None], error: type[ClusterError]
) -> None:
    fail(world.server)
    with pytest.raises(error):
        world.apply(plan(create=(ATTEMPT,), events=(NORMAL,)))
    assert world.server.all(JOBS) == []
    assert world.server.all(EVENTS) == []


def test_a_job_that_is_refused_counts_as_one_that_was_rejected(world: World) -> None:
    world.server.fail("create jobs", 422, message="quota policy")
    (job,) = world.apply(plan(create=(ATTEMPT,))).jobs
    assert (job.state, job.failure_message, job.uid) == (JobState.REJECTED, "quota policy", "")


def test_jobs_are_deleted_with_their_uid_and_listed_anew(world: World) -> None:
    job = world.apply(plan(create=(ATTEMPT,))).jobs[0]
    with pytest.raises(Conflict):
        world.apply(plan(delete=(JobToDelete(job.name, "another"),)))
    world.apply(plan(delete=(JobToDelete(job.name, job.uid),)))
    assert world.server.all(JOBS) == []
    assert world.cache.jobs.get(world.observed.run_uid) is None


def test_a_run_is_deleted_last(world: World) -> None:
    world.apply(plan(delete_run=True, events=(NORMAL,)))
    assert world.server.take_calls() == ["update trainingruns/status", "create events", "delete trainingruns"]


@pytest.mark.parametrize(
    ("site", "page"),
    [
        ("", "docs/troubleshooting.md#datasetmalformed"),
        ("https://atoll.example/docs", "https://atoll.example/docs/troubleshooting/#datasetmalformed"),
    ],
)
def test_an_event_names_the_page_that_helps(site: str, page: str) -> None:
    world = World(Settings(docs_url=site))
    failed = RunStatus(phase=Phase.FAILED, reason=Reason.DATASET_MALFORMED, message="no archive " + "x" * 2000)
    world.apply(plan(events=events(RunStatus(phase=Phase.CONVERTING), failed)))
    (event,) = world.server.all(EVENTS)
    assert event["message"].startswith("DatasetMalformed: no archive xxx")
    assert event["message"].endswith(f"…; what to do: {page}")


def test_events_that_cannot_be_created_are_left_out(world: World) -> None:
    world.server.fail("create events", 403, times=2)
    world.apply(plan(events=(NORMAL, WARNING)))
    assert world.server.all(EVENTS) == []


def test_where_calls_take_long_only_warnings_are_written(world: World) -> None:
    budget = world.applier._events_budget
    with budget.spend():
        world.server.clock.advance(2 * MAX_SAVED_SECONDS)
    world.apply(plan(events=(NORMAL, WARNING)))
    assert [event["reason"] for event in world.server.all(EVENTS)] == ["Failed"]
    world.server.clock.advance(2 * MAX_SAVED_SECONDS / EVENTS_SHARE)
    world.apply(plan(events=(NORMAL,)))
    assert len(world.server.all(EVENTS)) == 2


def test_each_stage_is_counted_when_it_ends(world: World) -> None:
    ended = RunStatus(stages=(StageStatus(Stage.CONVERT, phase=StagePhase.SUCCEEDED),))
    for _ in range(2):
        world.apply(plan(status=ended))
    samples = [sample for family in world.metrics.stages_ended.collect() for sample in family.samples]
    assert [(sample.labels["stage"], sample.value) for sample in samples] == [("convert", 1.0)]
