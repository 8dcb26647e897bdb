"""The Jobs that are remembered: merged by version, by namespace and owner, and told apart without parsing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll_operator.controller.job_cache import JobCache, is_unfinished, run_of
from atoll_operator.kube.errors import Unavailable

Body = dict[str, Any]
RUN = ("team", "run-uid")
COMPLETE: Body = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}


def job(name: str, version: int, **body: Any) -> Body:
    owner = {"kind": "TrainingRun", "uid": "run-uid", "controller": True}
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | {"ownerReferences": [owner]}, **body}


@pytest.fixture
def cache() -> JobCache:
    return JobCache()


def listed(cache: JobCache, *jobs: Body) -> list[Body]:
    return cache.read(RUN, lambda: jobs)


def test_jobs_are_unknown_until_they_were_listed(cache: JobCache) -> None:
    assert cache.put(RUN, job("train", 5)) is None
    assert cache.get(RUN) is None
    assert listed(cache, job("convert", 3)) == [job("convert", 3)]
    assert cache.put(RUN, job("train", 5))
    assert listed(cache, job("export", 9)) == cache.get(RUN) == [job("convert", 3), job("train", 5)]


def test_older_events_of_a_job_are_passed_over(cache: JobCache) -> None:
    listed(cache, job("train", 7))
    assert not cache.put(RUN, job("train", 6, **COMPLETE))
    assert not cache.put(RUN, job("train", 6), deleted=True)
    assert cache.get(RUN) == [job("train", 7)]
    assert cache.put(RUN, job("train", 8), deleted=True)
    assert cache.get(RUN) == []


def test_the_late_answer_to_a_creation_does_not_bring_a_deleted_job_back(cache: JobCache) -> None:
    cache.put_none(RUN)
    cache.put(RUN, job("train", 5))
    cache.put(RUN, job("train", 9), deleted=True)
    assert not cache.put(RUN, job("train", 5))
    assert cache.get(RUN) == []
    assert cache.put(RUN, job("train", 10))
    assert cache.get(RUN) == [job("train", 10)]


def test_O21_what_is_reported_during_a_list_counts_where_it_is_newer(cache: JobCache) -> None:
    def reported_meanwhile() -> list[Body]:
        answer = [job("convert", 3), job("train", 5), job("export", 6), job("compile", 9)]
        assert cache.put(RUN, job("train", 7, **COMPLETE))
        assert cache.put(RUN, job("export", 8), deleted=True)
        cache.put(RUN, job("compile", 6))
        cache.put(RUN, job("publish", 10))
        return answer

    expected = [job("convert", 3), job("train", 7, **COMPLETE), job("compile", 9), job("publish", 10)]
    assert cache.read(RUN, reported_meanwhile) == expected
    assert cache.get(RUN) == expected
    # The deletion is remembered.
    assert not cache.put(RUN, job("export", 7))


def test_O21_a_list_during_which_events_were_missed_is_not_kept(cache: JobCache) -> None:
    def missed_meanwhile() -> list[Body]:
        cache.clear()
        return [job("train", 5)]

    assert cache.read(RUN, missed_meanwhile) == [job("train", 5)]
    assert cache.get(RUN) is None


def test_after_a_list_that_failed_nothing_is_known(cache: JobCache) -> None:
    def fail() -> list[Body]:
        cache.put(RUN, job("train", 7))
        raise Unavailable("list jobs", "busy")

    with pytest.raises(Unavailable):
        cache.read(RUN, fail)
    assert cache.put(RUN, job("train", 8)) is None
    assert listed(cache, job("train", 6)) == [job("train", 6)]


def test_a_run_that_is_reported_as_new_keeps_the_jobs_that_are_known(cache: JobCache) -> None:
    listed(cache, job("train", 5))
    cache.put_none(RUN)
    assert cache.drop(RUN) == [job("train", 5)]
    cache.put_none(RUN)
    assert cache.get(RUN) == []


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": "evil"},
        {"ownerReferences": []},
        {"ownerReferences": [{"kind": "TrainingRun", "uid": "another", "controller": True}]},
        {"ownerReferences": [{"kind": "TrainingRun", "uid": "run-uid"}]},
        {"ownerReferences": [{"kind": "ReplicaSet", "uid": "run-uid", "controller": True}]},
    ],
    ids=["in another namespace", "owned by none", "owned by another", "not controlled", "controlled by another kind"],
)
def test_O20_a_list_of_labels_brings_only_the_runs_own_jobs(cache: JobCache, change: Body) -> None:
    stranger = job("train", 5)
    stranger["metadata"] |= change
    assert run_of(stranger) != RUN
    assert listed(cache, stranger, job("convert", 3)) == [job("convert", 3)]


@pytest.mark.parametrize(
    ("body", "unfinished"),
    [({}, True), ({"spec": {"suspend": True}}, True), ({"status": {"active": 1}}, True), (COMPLETE, False)],
)
def test_a_job_without_its_last_condition_may_have_a_pod(body: Body, unfinished: bool) -> None:
    assert is_unfinished(job("train", 1, **body)) is unfinished
    deleting = job("train", 1, **body)
    deleting["metadata"]["deletionTimestamp"] = "2027-01-09T12:00:00Z"
    assert not is_unfinished(deleting)


# Lines of the watch.

COUNTERS = b'{"type":"MODIFIED","object":{"metadata":{"managedFields":[{"f:conditions":{}}]},"status":{"active":1}}}'


def line(name: str) -> bytes:
    """What the watch brings when a Job's counters change."""
    return json.dumps({"type": "MODIFIED", "object": job(name, 9)}, separators=(",", ":")).encode()


def test_of_the_changes_of_a_job_only_those_matter_that_a_reconcile_reads(cache: JobCache) -> None:
    assert not cache.may_matter(COUNTERS)
    for mark in (b'"conditions":[]', b'"deletionTimestamp":"x"', b'"suspend":true'):
        assert cache.may_matter(COUNTERS.replace(b'"active":1', mark))
    for kind in (b"ADDED", b"DELETED"):
        assert cache.may_matter(COUNTERS.replace(b"MODIFIED", kind))


def test_O25_while_a_job_is_suspended_every_change_of_it_matters_and_of_no_other(cache: JobCache) -> None:
    listed(cache, job("train", 1, spec={"suspend": True}), job("convert", 1))
    assert cache.may_matter(line("train"))
    assert not cache.may_matter(line("convert"))
    cache.put(RUN, job("train", 2))
    assert not cache.may_matter(line("train"))
    cache.put(RUN, job("train", 3, spec={"suspend": True}))
    assert cache.may_matter(line("train"))
    cache.put(RUN, job("train", 4, spec={"suspend": True}), deleted=True)
    assert not cache.may_matter(line("train"))
