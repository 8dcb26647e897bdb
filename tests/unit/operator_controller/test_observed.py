"""What is read for a run, and what of it comes from the cache."""

from __future__ import annotations

from typing import Any

import pytest

from atoll_contract.stage import Stage
from atoll_operator.config import Settings
from atoll_operator.controller.cache import NODES_SECONDS, STORES_SECONDS, Cache
from atoll_operator.controller.job_cache import own_jobs
from atoll_operator.controller.observed import Observed, StateReader
from atoll_operator.controller.profile_snapshots import ProfileSnapshot
from atoll_operator.controller.queue import QueueManager
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.objects import JOBS, NODES, PROFILES, REVISIONS, RUNS, STORES
from atoll_operator.lifecycle.model import JobState
from cluster.objects import DIGEST, profile_manifest
from support.fake_cluster import FakeCluster, FakeServer
from support.fake_operator import FakeOperator, add_run, job_of, prepared, succeed

GPU_IMAGE = {"trainGPU": f"registry.invalid/atoll/gpu@{DIGEST}"}
NODE = {"metadata": {"name": "pc"}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}


def reader(server: FakeServer) -> StateReader:
    settings = Settings(own_namespace="atoll-system")
    return StateReader(FakeCluster(server), Cache(server.clock), settings, TimeSource(server.clock.now, server.clock))


def at_work() -> FakeServer:
    """A run whose convert Job was just created."""
    server = prepared()
    operator = FakeOperator(server)
    operator.start()
    add_run(server)
    operator.settle()
    server.take_calls()
    return server


def read_run(server: FakeServer) -> dict[str, Any]:
    run = server.get(RUNS, "team", "note")
    assert run is not None
    return run


def test_a_fresh_run_needs_its_jobs_profile_and_stores() -> None:
    server = prepared()
    observed = reader(server).read(add_run(server))
    assert server.take_calls() == ["list jobs", "get trainingprofiles", "get objectstores"]
    assert observed.profile is not None
    assert observed.stores is not None
    assert (observed.jobs, observed.pods, observed.problem, observed.stores.missing) == ((), (), "", "")


def test_while_a_job_works_no_store_is_read() -> None:
    server = at_work()
    observed = reader(server).read(read_run(server))
    assert server.take_calls() == ["list jobs", "get controllerrevisions"]
    assert observed.stores is None
    assert [job.stage for job in observed.jobs] == [Stage.CONVERT]
    assert observed.pods_requeue_after == pytest.approx(3.0)


def test_of_a_finished_run_only_its_jobs_are_read() -> None:
    server = at_work()
    server.edit(RUNS, "team", "note", {"status": {"phase": "Failed"}})
    observed = reader(server).read(read_run(server))
    assert server.take_calls() == ["list jobs"]
    assert observed.profile is None


def test_a_run_that_is_to_be_retried_is_read_as_one_that_works() -> None:
    server = at_work()
    server.edit(
        RUNS, "team", "note", {"status": {"phase": "Failed"}, "metadata": {"annotations": {"atoll.dev/retry": "1"}}}
    )
    assert reader(server).read(read_run(server)).profile is not None


def test_stores_are_remembered_for_a_moment_while_all_goes_well() -> None:
    server = at_work()
    refs = reader(server).refs
    spec = reader(server).read(read_run(server)).spec
    server.take_calls()
    first = refs.stores("team", spec)
    assert refs.stores("team", spec, cached=True) is first
    assert server.take_calls() == ["get objectstores"]
    refs.stores("team", spec)
    server.clock.advance(STORES_SECONDS)
    refs.stores("team", spec, cached=True)
    assert server.take_calls() == ["get objectstores"] * 2


def test_a_store_that_is_missing_is_not_remembered_as_missing() -> None:
    server = prepared()
    store = server.get(STORES, "team", "default")
    server.remove(STORES, "team", "default")
    own = reader(server)
    observed = own.read(add_run(server))
    assert observed.stores is not None
    assert observed.stores.missing == "there is no ObjectStore 'default' in namespace team"
    assert store is not None
    server.add(STORES, store, "team")
    assert own.refs.stores("team", observed.spec, cached=True).missing == ""


@pytest.mark.parametrize(
    ("accelerator", "images", "nodes", "offered"),
    [("auto", {}, 1, False), ("auto", GPU_IMAGE, 1, True), ("auto", GPU_IMAGE, 0, False), ("gpu", GPU_IMAGE, 0, True)],
)
def test_nodes_are_asked_for_a_gpu_only_where_it_matters(
    accelerator: str, images: dict[str, str], nodes: int, offered: bool
) -> None:
    server = prepared(images=profile_manifest("default")["spec"]["images"] | images)
    if nodes:
        server.add(NODES, NODE)
    training = {"initFrom": {"type": "random"}, "steps": 20, "batchSize": 4, "accelerator": accelerator}
    observed = reader(server).read(add_run(server, training=training))
    assert observed.profile is not None
    assert observed.profile.view.gpu_offered is offered
    assert server.take_calls().count("list nodes") == (accelerator == "auto" and bool(images))


def test_runs_that_wait_do_not_list_the_nodes_at_each_reconcile() -> None:
    server = prepared(images=profile_manifest("default")["spec"]["images"] | GPU_IMAGE)
    training = {"initFrom": {"type": "random"}, "steps": 20, "batchSize": 4, "accelerator": "auto"}
    run, own = add_run(server, training=training), reader(server)
    for _ in range(10):
        profile = own.read(run).profile
        assert profile is not None
        assert not profile.view.gpu_offered
    assert server.take_calls().count("list nodes") == 1
    server.add(NODES, NODE)
    server.clock.advance(NODES_SECONDS)
    profile = own.read(run).profile
    assert profile is not None
    assert profile.view.gpu_offered


def test_an_accepted_run_keeps_its_snapshot_whatever_becomes_of_the_profile() -> None:
    server = at_work()
    own = reader(server)
    server.remove(PROFILES, None, "default")
    first = own.read(read_run(server)).profile
    server.remove(REVISIONS, "atoll-system", server.all(REVISIONS)[0]["metadata"]["name"])
    # Read once, and remembered for good.
    assert own.read(read_run(server)).profile is first
    assert first is not None
    assert reader(server).read(read_run(server)).profile is None


def test_a_snapshot_of_another_profile_is_not_the_runs() -> None:
    server = at_work()
    other = ProfileSnapshot("other", server.all(PROFILES)[0]["spec"])
    server.add(REVISIONS, other.manifest(), "atoll-system")
    server.edit(RUNS, "team", "note", {"status": {"resolved": {"profileRevision": other.revision}}})
    assert reader(server).read(read_run(server)).profile is None


def test_a_spec_that_cannot_be_carried_out_is_read_with_a_sentence_on_it() -> None:
    server = prepared()
    training = {"initFrom": {"type": "random"}, "steps": 20, "batchSize": 4, "hyperparameters": {"epochs": "many"}}
    observed = reader(server).read(add_run(server, training=training))
    assert "epochs" in observed.problem
    assert observed.view(QueueManager(), now=server.clock.now()).invalid == observed.problem


def test_a_status_that_no_operator_wrote_counts_as_none() -> None:
    server = at_work()
    server.edit(RUNS, "team", "note", {"status": {"phase": 7}})
    observed = reader(server).read(read_run(server))
    assert observed.status is None
    assert [job.stage for job in observed.jobs] == [Stage.CONVERT]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"labels": {"atoll.dev/stage": "train"}},
        {"labels": {"atoll.dev/attempt": "2"}},
        {"labels": {"atoll.dev/stage": "other"}},
        {"labels": {"atoll.dev/attempt": "x"}},
    ],
)
def test_a_job_whose_name_is_not_that_of_its_stage_and_attempt_is_not_the_runs(change: dict[str, Any]) -> None:
    server = at_work()
    run, job = read_run(server), job_of(server, Stage.CONVERT)
    assert len(list(own_jobs(run, [job]))) == 1
    job["metadata"] |= {**change, "labels": job["metadata"]["labels"] | change.get("labels", {})}
    assert list(own_jobs(run, [job])) == []


def test_a_new_job_takes_the_place_of_the_one_of_its_name() -> None:
    server = at_work()
    observed = reader(server).read(read_run(server))
    (job,) = observed.jobs
    changed = observed.with_job(job, requeue_after=1.5)
    assert (changed.jobs, changed.pods_requeue_after) == ((job,), 1.5)


def test_the_pods_of_a_job_that_succeeded_are_read_until_its_end_is_recorded() -> None:
    server = at_work()
    succeed(server, Stage.CONVERT)
    own = reader(server)
    observed: Observed = own.read(read_run(server))
    assert [(job.state, len(observed.pods)) for job in observed.jobs] == [(JobState.SUCCEEDED, 1)]
    assert server.take_calls().count("list pods") == 1
    server.edit(RUNS, "team", "note", {"status": {"stages": [{"name": "convert", "phase": "Succeeded"}]}})
    assert own.read(read_run(server)).pods == ()
    assert server.take_calls().count("list pods") == 0
    assert server.all(JOBS)
