"""A watch continues where it was, and says so where events may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import Forbidden, Unavailable
from atoll_operator.kube.objects import JOBS, Resource
from atoll_operator.kube.watch import Watcher, WatchSpec


def line(kind: str, version: int) -> bytes:
    event = {"type": kind, "object": {"metadata": {"resourceVersion": str(version)}}}
    return json.dumps(event, separators=(",", ":")).encode()


class Server:
    """Collections at version 100, and what each watch brings: lines, then an end or an error."""

    def __init__(self, *watches: list[bytes | Exception]) -> None:
        self.watches = list(watches)
        self.since: list[str] = []
        self.versions_asked = 0

    def version_of(self, resource: Resource, namespace: str | None, *, labels: str, fields: str) -> str:
        assert (resource, namespace, labels, fields) == (JOBS, "team", "mine", "")
        self.versions_asked += 1
        return "100"

    def watch(self, *_: Any, since: str, **__: Any) -> Iterator[bytes]:
        self.since.append(since)
        for item in self.watches.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


class Listener:
    def __init__(self, server: Server) -> None:
        self.lines: list[bytes] = []
        self.starts = 0
        self.pauses: list[float] = []
        spec = WatchSpec(JOBS, "team", self.lines.append, labels="mine", on_start=self._on_start)
        self.watcher = Watcher(cast(Cluster, server), spec, silence=70, wait=self.pauses.append)

    def _on_start(self) -> None:
        self.starts += 1

    def listen(self, watches: int) -> None:
        for _ in range(watches):
            self.watcher.watch_once()


def test_a_watch_that_the_server_ends_goes_on_from_its_last_bookmark() -> None:
    server = Server([line("ADDED", 101), line("BOOKMARK", 120), line("MODIFIED", 130)], [line("DELETED", 131)], [])
    listener = Listener(server)
    listener.listen(3)
    assert server.since == ["100", "120", "120"]
    assert listener.lines == [line("ADDED", 101), line("MODIFIED", 130), line("DELETED", 131)]
    # Nothing was missed.
    assert (listener.starts, server.versions_asked) == (1, 1)
    # A server or proxy that ends each watch at once is not asked without a pause.
    assert len(listener.pauses) == 1


@pytest.mark.parametrize(
    "error",
    [b'{"type":"ERROR","object":{"code":410}}', Unavailable("watch jobs", "silence"), Forbidden("watch jobs", "no")],
)
def test_after_an_error_it_begins_anew_and_says_so(error: bytes | Exception) -> None:
    server = Server([line("BOOKMARK", 120), error], [line("ADDED", 140)])
    listener = Listener(server)
    listener.listen(2)
    assert server.since == ["100", "100"]
    assert listener.lines == [line("ADDED", 140)]
    assert (listener.starts, len(listener.pauses)) == (2, 1)


def test_the_same_error_in_a_row_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    no = Forbidden("watch jobs", "no")
    listener = Listener(Server([no], [no], [], [no]))
    listener.listen(4)
    assert len(caplog.records) == 2


def test_an_exception_of_the_handler_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    received: list[bytes] = []

    def handle(received_line: bytes) -> None:
        received.append(received_line)
        if len(received) == 1:
            raise KeyError("labels")

    server = Server([line("ADDED", 101), line("MODIFIED", 102)])
    Watcher(cast(Cluster, server), WatchSpec(JOBS, "team", handle, labels="mine"), silence=70).watch_once()
    assert received == [line("ADDED", 101), line("MODIFIED", 102)]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is None) == ("ERROR", False)
