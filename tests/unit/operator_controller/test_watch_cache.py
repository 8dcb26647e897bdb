"""What the watches told: never newer things overwritten by older ones, never the dead brought back."""

from __future__ import annotations

from typing import Any

import pytest

from atoll_operator.controller.cache import WatchCache

KEY = ("team", "note")


def run(version: int, *, uid: str = "run-uid", phase: str = "Training") -> dict[str, Any]:
    metadata = {"namespace": "team", "name": "note", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"phase": phase}}


def job(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


@pytest.fixture
def cache() -> WatchCache:
    return WatchCache()


def test_an_older_event_does_not_undo_what_was_just_written(cache: WatchCache) -> None:
    cache.keep_run(run(100))
    cache.keep_run(run(99))
    assert cache.run(KEY) == run(100)
    cache.keep_run(run(1000))
    assert cache.run(KEY) == run(1000)


def test_a_run_that_is_over_is_not_kept_nor_are_its_jobs(cache: WatchCache) -> None:
    cache.keep_run(run(1))
    cache.keep_jobs("run-uid", [job("train", 1)])
    cache.keep_run(run(2, phase="Succeeded"))
    assert cache.run(KEY) is None
    assert cache.jobs("run-uid") is None


def test_a_run_created_anew_has_none_of_the_old_jobs(cache: WatchCache) -> None:
    cache.keep_run(run(1))
    cache.keep_jobs("run-uid", [job("train", 1)])
    cache.keep_run(run(5, uid="another"))
    assert cache.jobs("run-uid") is None
    assert cache.jobs("another") is None


def test_a_deleted_run_is_not_brought_back_by_a_look_under_way(cache: WatchCache) -> None:
    cache.keep_run(run(1))
    cache.delete(run(2))
    cache.keep_run(run(1))
    assert cache.run(KEY) is None


def test_jobs_are_unknown_until_they_were_listed(cache: WatchCache) -> None:
    cache.keep_job("run-uid", job("train", 5))
    assert cache.jobs("run-uid") is None
    cache.keep_jobs("run-uid", [job("convert", 3)])
    cache.keep_job("run-uid", job("train", 5))
    assert cache.jobs("run-uid") == [job("convert", 3), job("train", 5)]


def test_older_events_of_a_job_are_passed_over(cache: WatchCache) -> None:
    cache.keep_jobs("run-uid", [job("train", 7)])
    cache.keep_job("run-uid", job("train", 6))
    assert cache.jobs("run-uid") == [job("train", 7)]
    cache.keep_job("run-uid", job("train", 6), deleted=True)
    assert cache.jobs("run-uid") == [job("train", 7)]
    cache.keep_job("run-uid", job("train", 8), deleted=True)
    assert cache.jobs("run-uid") == []


def test_what_is_forgotten_is_read_live(cache: WatchCache) -> None:
    cache.keep_run(run(1))
    cache.keep_jobs("run-uid", [])
    cache.forget(KEY)
    assert cache.run(KEY) is None
    assert cache.jobs("run-uid") is None


COUNTERS = b'{"type":"MODIFIED","object":{"metadata":{"managedFields":[{"f:conditions":{}}]},"status":{"active":1}}}'


def test_of_the_changes_of_a_job_only_those_matter_that_a_look_sees(cache: WatchCache) -> None:
    assert not cache.may_matter(COUNTERS)
    for mark in (b'"conditions":[]', b'"deletionTimestamp":"x"', b'"suspend":true'):
        assert cache.may_matter(COUNTERS.replace(b'"active":1', mark))
    for kind in (b"ADDED", b"DELETED"):
        assert cache.may_matter(COUNTERS.replace(b"MODIFIED", kind))


def test_while_a_job_is_suspended_every_change_matters(cache: WatchCache) -> None:
    cache.keep_job("run-uid", job("train", 1) | {"spec": {"suspend": True}})
    assert cache.may_matter(COUNTERS)
    cache.keep_job("run-uid", job("train", 2))
    assert not cache.may_matter(COUNTERS)
    cache.keep_job("run-uid", job("train", 3) | {"spec": {"suspend": True}})
    cache.keep_job("run-uid", job("train", 4) | {"spec": {"suspend": True}}, deleted=True)
    assert not cache.may_matter(COUNTERS)
