"""One list of the Jobs of many runs, while events and creations go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from atoll_operator.controller.job_cache import JobCache
from atoll_operator.kube.errors import Unavailable

Body = dict[str, Any]
RUN, OTHER = ("team", "run-uid"), ("team", "other-uid")


def job(name: str, version: int, *, run: tuple[str, str] = RUN) -> Body:
    owner = {"kind": "TrainingRun", "uid": run[1], "controller": True}
    metadata = {"namespace": run[0], "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | {"ownerReferences": [owner]}}


@pytest.fixture
def cache() -> JobCache:
    return JobCache()


def test_a_list_brings_the_jobs_of_the_runs_that_were_asked_for(cache: JobCache) -> None:
    stranger = job("convert", 6, run=("evil", "run-uid"))
    third = job("train", 7, run=("team", "third-uid"))
    cache.read_all([RUN, OTHER], lambda: [job("convert", 5), stranger, third])
    assert cache.get(RUN) == [job("convert", 5)]
    assert cache.get(OTHER) == []
    assert cache.get(("team", "third-uid")) is None


def test_what_was_known_and_is_not_listed_is_gone(cache: JobCache) -> None:
    cache.read(RUN, lambda: [job("convert", 5), job("train", 8)])
    cache.read_all([RUN], lambda: [job("train", 8)])
    assert cache.get(RUN) == [job("train", 8)]


@pytest.mark.parametrize("known", [False, True])
def test_O27_a_list_takes_nothing_back_that_came_meanwhile(cache: JobCache, known: bool) -> None:
    if known:
        cache.read(RUN, lambda: [job("convert", 3), job("train", 5)])

    def list_live() -> Iterator[Body]:
        yield job("convert", 3)
        cache.put(RUN, job("export", 9))
        cache.put(RUN, job("train", 10), deleted=True)
        yield job("train", 5)

    cache.read_all([RUN], list_live)
    assert sorted(item["metadata"]["name"] for item in cache.get(RUN) or ()) == ["convert", "export"]


@pytest.mark.parametrize("known", [False, True])
def test_a_list_is_not_taken_for_a_run_that_was_dropped_meanwhile(cache: JobCache, known: bool) -> None:
    if known:
        cache.read(RUN, lambda: [job("convert", 3)])

    def list_live() -> Iterator[Body]:
        cache.drop(RUN)
        yield job("convert", 3)

    cache.read_all([RUN, OTHER], list_live)
    assert cache.get(RUN) is None
    assert cache.get(OTHER) == []


def test_a_list_that_fails_leaves_all_as_it_was(cache: JobCache) -> None:
    cache.read(RUN, lambda: [job("convert", 3)])

    def list_live() -> Iterator[Body]:
        yield job("train", 5)
        raise Unavailable("list jobs", "too busy")

    with pytest.raises(Unavailable):
        cache.read_all([RUN, OTHER], list_live)
    assert cache.get(RUN) == [job("convert", 3)]
    assert cache.get(OTHER) is None
    # No list is under way that would keep what is reported.
    assert cache.put(OTHER, job("convert", 6, run=OTHER)) is None
