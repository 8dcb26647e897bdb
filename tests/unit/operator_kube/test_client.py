"""Calls as requests: their names in errors, pages of lists, the fence, and answers that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll_operator.kube.client import LIST_PAGE, LOG_TAIL_BYTES, Cluster, connect_as_user
from atoll_operator.kube.errors import AlreadyExists, ClusterError, Conflict, Refused, Unavailable
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import JOBS, PODS, RUNS
from atoll_operator.kube.transport import Request
from support.fake_cluster import FakeCluster, FakeServer
from support.scripted_api import ScriptedApi

JOB = {"metadata": {"name": "one", "labels": {"team": "190"}}}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request("GET", RUNS, "team", "note"), "get trainingruns team/note"),
        (Request("POST", JOBS, "team"), "create jobs team"),
        (Request("PATCH", RUNS, "team", "note", "status"), "patch trainingruns/status team/note"),
        (Request("GET", JOBS, query={"watch": "true"}), "watch jobs "),
    ],
)
def test_an_error_names_the_call(request_: Request, text: str) -> None:
    assert str(request_) == text


def test_an_object_is_read_as_it_was_created_and_none_where_it_is_missing() -> None:
    cluster = FakeCluster(FakeServer())
    created = cluster.create(JOBS, "team", JOB)
    assert cluster.read(JOBS, "team", "one") == created
    assert cluster.read(JOBS, "team", "two") is None
    with pytest.raises(AlreadyExists, match="create jobs team: jobs 'one' already exists"):
        cluster.create(JOBS, "team", JOB)


def test_a_status_is_replaced_as_a_whole_and_only_that_of_the_newest_version() -> None:
    server = FakeServer()
    cluster = FakeCluster(server)
    kind = {"apiVersion": "atoll.dev/v1alpha1", "kind": "TrainingRun", "spec": {"suspend": False}}
    first = cluster.create(RUNS, "team", {**kind, "metadata": {"name": "note"}})
    second = cluster.replace_status(RUNS, first, {"phase": "Pending", "queue": {"ahead": 2}})
    assert second is not None
    third = cluster.replace_status(RUNS, second, {"phase": "Training"})
    assert third is not None
    # What is returned is what a read would bring, though the answer holds the metadata alone.
    assert third == cluster.read(RUNS, "team", "note")
    assert third["status"] == {"phase": "Training"}
    assert third["spec"] == {"suspend": False}
    with pytest.raises(Conflict, match="update trainingruns/status team/note"):
        cluster.replace_status(RUNS, second, {"phase": "Failed"})
    server.remove(RUNS, "team", "note")
    assert cluster.replace_status(RUNS, third, {"phase": "Failed"}) is None


def test_a_deletion_is_of_one_object_and_may_come_too_late() -> None:
    cluster = FakeCluster(FakeServer())
    uid = cluster.create(JOBS, "team", JOB)["metadata"]["uid"]
    with pytest.raises(Conflict):
        cluster.delete(JOBS, "team", "one", uid="another")
    for _ in range(2):
        cluster.delete(JOBS, "team", "one", uid=uid)
    assert cluster.list_all(JOBS) == []


def test_a_list_holds_to_its_namespace_and_selectors() -> None:
    cluster = FakeCluster(FakeServer())
    for namespace in ("team", "other"):
        cluster.create(JOBS, namespace, JOB)
        cluster.create(JOBS, namespace, {"metadata": {"name": "two"}})
    assert len(cluster.list_all(JOBS)) == 4
    assert [job["metadata"]["name"] for job in cluster.list_all(JOBS, "team", labels="team=190")] == ["one"]
    assert [job["metadata"]["name"] for job in cluster.list_all(JOBS, "team", fields="metadata.name=two")] == ["two"]


class Pages(Cluster):
    """Answers with these pages, one after the other."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.queries: list[dict[str, str]] = []

    def _answer(self, request: Request, *, last: int | None = None) -> tuple[int, bytes]:
        self.queries.append(dict(request.query))
        return 200, json.dumps(self.pages.pop(0)).encode()


def test_a_long_list_is_read_page_by_page() -> None:
    cluster = Pages({"items": [{"n": 1}], "metadata": {"continue": "next"}}, {"items": [{"n": 2}], "metadata": {}})
    pages = cluster.list_each(JOBS, labels="team")
    assert next(pages) == {"n": 1}
    assert len(cluster.queries) == 1
    assert list(pages) == [{"n": 2}]
    first = {"limit": str(LIST_PAGE), "labelSelector": "team"}
    assert cluster.queries == [first, first | {"continue": "next"}]


def test_without_the_lease_nothing_is_written_and_all_can_be_read() -> None:
    server = FakeServer()

    def fence() -> None:
        raise NotLeader("not leader")

    cluster = FakeCluster(server, fence=fence)
    assert cluster.list_all(JOBS) == []
    writes: list[Callable[[], object]] = [
        lambda: cluster.create(JOBS, "team", JOB),
        lambda: cluster.patch_status(JOBS, "team", "one", {}),
        lambda: cluster.delete(JOBS, "team", "one", uid="x"),
    ]
    for write in writes:
        with pytest.raises(NotLeader):
            write()
    assert server.take_calls() == ["list jobs"]


@pytest.mark.parametrize(("status", "error"), [(0, Unavailable), (404, Refused), (422, Refused)])
def test_a_creation_that_fails_is_an_error_and_never_none(status: int, error: type[ClusterError]) -> None:
    server = FakeServer()
    server.fail("create jobs", status)
    with pytest.raises(error):
        FakeCluster(server).create(JOBS, "team", JOB)


def test_the_log_of_a_container_that_waits_to_start_is_empty() -> None:
    server = FakeServer()
    cluster = FakeCluster(server)
    assert cluster.read_log_tail("team", "pod", container="stage", lines=5) == ""
    server.logs["pod"] = "a line\n"
    assert cluster.read_log_tail("team", "pod", container="stage", lines=5) == "a line\n"
    server.fail(f"get {PODS.plural}/log", 503)
    with pytest.raises(Unavailable):
        cluster.read_log("team", "pod", container="stage")


def test_of_long_lines_the_end_of_a_log_keeps_the_newest(tmp_path: Path) -> None:
    lines = [f"line {number} {'x' * 3000}\n" for number in range(50)]
    with ScriptedApi() as api:
        api.answers["/api/v1/namespaces/team/pods/pod/log"] = lambda _: (200, "".join(lines))
        cluster, _ = connect_as_user(str(api.write_kubeconfig(tmp_path / "kubeconfig")), None)
        log = cluster.read_log_tail("team", "pod", container="stage", lines=50)
        ((_, query),) = api.requests
    assert len(log) == LOG_TAIL_BYTES
    assert log.endswith("".join(lines[-10:]))
    assert query == {"container": "stage", "tailLines": "50"}


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ("nope", "there is no namespace nope, or the cluster knows no trainingruns"),
        (None, "the cluster knows no trainingruns"),
    ],
)
def test_where_nothing_can_be_created_the_namespace_is_named(namespace: str | None, message: str) -> None:
    server = FakeServer()
    server.fail("create trainingruns", 404)
    with pytest.raises(Refused, match=f" {message}$"):
        FakeCluster(server).create(RUNS, namespace, {"metadata": {"name": "note"}})
