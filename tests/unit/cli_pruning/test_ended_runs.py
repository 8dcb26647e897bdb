"""Runs that ended long ago are written as JSON and then deleted from the cluster; all others stay."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from atoll_cli.cluster_access import ClusterAccess
from atoll_cli.pruning.ended_runs import EndedRuns
from atoll_cli.pruning.groups import DAY, Kind, RetentionPolicy
from atoll_contract import keys
from atoll_contract.document import rfc3339, to_json
from atoll_contract.store.base import ObjectInfo, StoreUnavailable
from atoll_contract.store.directory import DirStore
from atoll_operator.kube.objects import RUNS
from atoll_operator.kube.transport import Body
from support.fake_cluster import FakeCluster, FakeServer
from support.fake_operator import add_run

NOW = time.time()
KEY = keys.archived_run("team", "old", "old-uid")


def run(server: FakeServer, name: str, *, phase: str = "Succeeded", days_ago: float = 40.0, retry: str = "") -> None:
    add_run(server, name, uid=f"{name}-uid")
    status = {"phase": phase} | ({"completionTime": rfc3339(NOW - days_ago * DAY)} if phase != "Training" else {})
    metadata: Body = {"managedFields": [{"manager": "kubectl"}], "annotations": {"atoll.dev/retry": retry or None}}
    server.edit(RUNS, "team", name, {"metadata": metadata, "status": status})


@pytest.fixture
def server() -> FakeServer:
    server = FakeServer()
    run(server, "old")
    run(server, "failed", phase="Failed", days_ago=31)
    run(server, "young", days_ago=29)
    run(server, "at-work", phase="Training")
    run(server, "again", phase="Failed", retry="now")
    return server


def ended(server: FakeServer, archive: DirStore) -> EndedRuns:
    access = ClusterAccess(FakeCluster(server), "team")
    return EndedRuns(access, archive, RetentionPolicy(30 * DAY), clock=lambda: NOW)


def test_runs_that_ended_long_ago_are_found(server: FakeServer, tmp_path: Path) -> None:
    found = ended(server, DirStore(tmp_path)).groups()
    assert [(item.kind, item.name, item.why) for item in found] == [
        (Kind.TRAINING_RUN, "old", "it ended 40 days ago"),
        (Kind.TRAINING_RUN, "failed", "it ended 31 days ago"),
    ]
    assert list(DirStore(tmp_path).list("")) == []
    assert len(server.all(RUNS)) == 5


def test_a_run_is_deleted_once_its_json_is_written(server: FakeServer, tmp_path: Path) -> None:
    archive, before = DirStore(tmp_path), server.get(RUNS, "team", "old")
    assert before is not None
    runs = ended(server, archive)
    for item in runs.groups():
        now = runs.recheck(item)
        assert now is not None
        runs.remove(now)
    assert [item["metadata"]["name"] for item in server.all(RUNS)] == ["young", "at-work", "again"]
    del before["metadata"]["managedFields"]
    assert archive.get(KEY) == to_json(before)
    assert len(list(archive.list("archive/team/"))) == 2


def test_a_run_stays_where_its_json_cannot_be_written(server: FakeServer, tmp_path: Path) -> None:
    class Full(DirStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
            raise StoreUnavailable("no space left")

    runs = ended(server, Full(tmp_path))
    with pytest.raises(StoreUnavailable):
        runs.remove(runs.groups()[0])
    assert len(server.all(RUNS)) == 5


@pytest.mark.parametrize("meanwhile", ["gone", "another", "to start again"])
def test_a_run_that_changed_meanwhile_stays(server: FakeServer, tmp_path: Path, meanwhile: str) -> None:
    runs = ended(server, DirStore(tmp_path))
    failed = next(item for item in runs.groups() if item.name == "failed")
    if meanwhile == "to start again":
        server.edit(RUNS, "team", "failed", {"metadata": {"annotations": {"atoll.dev/retry": "now"}}})
    else:
        server.remove(RUNS, "team", "failed")
    if meanwhile == "another":
        run(server, "failed", days_ago=50)
        server.objects["trainingruns", "team", "failed"]["metadata"]["uid"] = "another-uid"
    assert runs.recheck(failed) is None
