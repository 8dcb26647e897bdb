"""The cache: nothing newer is overwritten by something older, and nothing deleted comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll_contract.stage import Stage
from atoll_operator.controller.cache import MAX_SUCCEEDED_PODS, Cache, ExpiringDict, PodReading
from atoll_operator.controller.manager import EventHandlers
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.queue import QueueManager
from atoll_operator.kube.objects import job_view
from support.fake_cluster import FakeClock

Body = dict[str, Any]

KEY, RUN_UID = ("team", "note"), ("team", "run-uid")
CREATED: Body = {"metadata": {"name": "train", "uid": "uid-train", "creationTimestamp": "2027-01-09T12:00:00Z"}}


def run(version: int, *, uid: str = "run-uid", phase: str = "Training") -> Body:
    metadata = {"namespace": "team", "name": "note", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"phase": phase}}


def job(name: str, version: int) -> Body:
    owner = {"kind": "TrainingRun", "uid": "run-uid", "controller": True}
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | {"labels": {"atoll.dev/run": "note"}, "ownerReferences": [owner]}}


def put_jobs(cache: Cache, *jobs: Body) -> None:
    cache.read_jobs(RUN_UID, lambda: jobs)


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def handlers(cache: Cache) -> EventHandlers:
    return EventHandlers(cache, QueueManager(), metrics=OperatorMetrics(), wake=lambda keys: None)


def test_an_older_event_does_not_undo_what_was_just_written(cache: Cache) -> None:
    cache.put_run(run(100))
    cache.put_run(run(99))
    assert cache.run(KEY) == run(100)
    cache.put_run(run(1000))
    assert cache.run(KEY) == run(1000)


def test_a_run_that_is_over_is_not_kept_nor_are_its_jobs(cache: Cache) -> None:
    cache.put_run(run(1))
    put_jobs(cache, job("train", 1))
    cache.put_run(run(2, phase="Succeeded"))
    assert cache.run(KEY) is None
    assert cache.jobs.get(RUN_UID) is None


def test_a_run_created_anew_has_none_of_the_old_jobs(cache: Cache) -> None:
    cache.put_run(run(1))
    put_jobs(cache, job("train", 1))
    cache.put_run(run(5, uid="another"))
    assert cache.jobs.get(RUN_UID) is None
    assert cache.jobs.get(("team", "another")) is None


def test_a_deleted_run_is_not_brought_back_by_a_reconcile_under_way(cache: Cache) -> None:
    cache.put_run(run(1))
    cache.forget(KEY, uid="run-uid")
    cache.put_run(run(1))
    assert cache.run(KEY) is None


def test_what_is_forgotten_is_read_live(cache: Cache) -> None:
    cache.put_run(run(1))
    put_jobs(cache)
    cache.invalidate(KEY)
    assert cache.run(KEY) is None
    assert cache.jobs.get(RUN_UID) is None


# Pods that succeeded.


def pod(
    name: str, *, job: str = "job-uid", kind: str = "Job", controller: bool = True, namespace: str = "team"
) -> Body:
    ended = {"exitCode": 0, "reason": "Completed", "message": "{}", "finishedAt": "2027-01-09T12:01:00Z"}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"atoll.dev/run": "note", "atoll.dev/run-uid": "run-uid"},
            "creationTimestamp": "2027-01-09T12:00:00Z",
            "ownerReferences": [{"kind": kind, "name": "note-train-1-abc", "uid": job, "controller": controller}],
        },
        "spec": {"containers": [{"name": "stage"}]},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "stage", "state": {"terminated": ended}}]},
    }


def pod_event(kind: str, body: Body) -> bytes:
    """As the API server writes it."""
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode()


def test_a_pod_that_has_just_succeeded_is_known_by_its_job(cache: Cache, handlers: EventHandlers) -> None:
    cache.put_run(run(1))
    handlers.on_pod_event(pod_event("ADDED", pod("one")))
    (known,) = cache.succeeded_pod("team", "job-uid")
    assert (known.name, known.job, known.exit_code, known.termination_message) == ("one", "note-train-1-abc", 0, "{}")
    assert cache.succeeded_pod("team", "another") == ()
    cache.forget_pods("team", "job-uid")
    assert cache.succeeded_pod("team", "job-uid") == ()


def test_later_changes_of_it_are_not_read(cache: Cache, handlers: EventHandlers) -> None:
    for kind in ("MODIFIED", "DELETED"):
        handlers.on_pod_event(pod_event(kind, pod("one")))
    assert cache.succeeded_pod("team", "job-uid") == ()


def test_two_pods_of_one_job_have_to_be_read_live(cache: Cache) -> None:
    cache.put_run(run(1))
    cache.put_succeeded_pod(pod("one"))
    cache.put_succeeded_pod(pod("two"))
    assert cache.succeeded_pod("team", "job-uid") == ()


@pytest.mark.parametrize("stage", ["convert", "train"])
def test_only_index_0_of_several_pods_has_the_result(cache: Cache, stage: str) -> None:
    cache.put_run(run(1))
    for name, index in (("second", "1"), ("first", "0")):
        body = pod(name)
        body["metadata"]["labels"] |= {"atoll.dev/stage": stage, "batch.kubernetes.io/job-completion-index": index}
        cache.put_succeeded_pod(body)
    (known,) = cache.succeeded_pod("team", "job-uid")
    assert (known.name, known.index) == ("first", 0)


def test_a_pod_that_no_job_controls_is_nobodys(cache: Cache) -> None:
    cache.put_run(run(1))
    cache.put_succeeded_pod(pod("one", kind="ReplicaSet"))
    cache.put_succeeded_pod(pod("two", controller=False))
    assert cache.succeeded_pod("team", "job-uid") == ()


@pytest.mark.parametrize(
    ("namespace", "known"), [("evil", run(1)), ("team", run(1, uid="another")), ("team", run(1, phase="Succeeded"))]
)
def test_O20_a_pod_whose_namespace_has_no_such_run_at_work_is_not_kept(
    cache: Cache, namespace: str, known: Body
) -> None:
    cache.put_run(known)
    cache.put_succeeded_pod(pod("one", namespace=namespace))
    assert cache.succeeded_pod(namespace, "job-uid") == ()
    assert cache.succeeded_pod("team", "job-uid") == ()


def test_the_oldest_gives_way(cache: Cache) -> None:
    cache.put_run(run(1))
    for number in range(MAX_SUCCEEDED_PODS + 1):
        cache.put_succeeded_pod(pod(f"pod-{number}", job=f"job-{number}"))
    assert cache.succeeded_pod("team", "job-0") == ()
    assert cache.succeeded_pod("team", "job-1")
    assert cache.succeeded_pod("team", f"job-{MAX_SUCCEEDED_PODS}")


# All of a run.


def remembered(cache: Cache) -> None:
    """All kinds of things about one run."""
    cache.put_run(run(1))
    put_jobs(cache, job("train", 1))
    view = job_view(job("train", 1) | CREATED, stage=Stage.TRAIN, attempt=1)
    cache.pod_readings.put("uid-train", PodReading(view))
    cache.put_succeeded_pod(pod("one", job="uid-train"))
    cache.blocked[KEY] = ("forbidden", 0.0)


def test_nothing_of_a_deleted_run_stays(cache: Cache) -> None:
    remembered(cache)
    cache.forget(KEY)
    assert (cache.run(KEY), cache.version(KEY), cache.jobs.get(RUN_UID)) == (None, None, None)
    assert cache.pod_readings.get("uid-train") is None
    assert cache.succeeded_pod("team", "uid-train") == ()
    assert cache.blocked == {}


def test_a_failed_call_has_run_and_jobs_read_live_and_keeps_the_last_reading_of_pods(cache: Cache) -> None:
    remembered(cache)
    cache.invalidate(KEY)
    assert (cache.run(KEY), cache.jobs.get(RUN_UID)) == (None, None)
    assert cache.pod_readings.get("uid-train")
    assert cache.blocked


def test_what_expires_is_gone_after_its_time_and_the_oldest_gives_way() -> None:
    clock = FakeClock()
    kept: ExpiringDict[str, int] = ExpiringDict(clock, seconds=30, limit=2)
    kept.put("old", 1, at=clock() - 10)
    assert kept.get_with_age("old") == (10.0, 1)
    clock.advance(20)
    assert kept.get("old") is None
    for name in ("one", "two", "three"):
        kept.put(name, 2)
    assert (kept.get("one"), kept.get("three"), len(kept)) == (None, 2, 2)
