"""A watch continues where it was, and says so where events may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import Forbidden, Unavailable
from atoll_operator.kube.objects import JOBS, Resource
from atoll_operator.kube.watch import MAX_FAULTS, PAUSE_SECONDS, Watcher, WatchSpec, WatchTiming
from support.fake_cluster import FakeClock


def line(kind: str, version: int) -> bytes:
    event = {"type": kind, "object": {"metadata": {"resourceVersion": str(version)}}}
    return json.dumps(event, separators=(",", ":")).encode()


class Server:
    """Collections at version 100, and what each watch brings: lines, waits (s), then an end or an error."""

    def __init__(self, *watches: list[bytes | float | Exception]) -> None:
        self.clock = FakeClock()
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
            if isinstance(item, float):
                self.clock.advance(item)
            else:
                yield item


class Listener:
    def __init__(self, server: Server) -> None:
        self.lines: list[bytes] = []
        self.starts = 0
        self.pauses: list[float] = []
        self.given_up: list[Exception] = []
        spec = WatchSpec(JOBS, "team", self.lines.append, labels="mine", on_start=self._on_start)
        timing = WatchTiming(70, server.clock, self.pauses.append)
        self.watcher = Watcher(cast(Cluster, server), spec, timing, give_up=self.given_up.append)

    def _on_start(self) -> None:
        self.starts += 1

    def listen(self, watches: int) -> None:
        for _ in range(watches):
            self.watcher.watch_once()


def test_a_watch_that_the_server_ends_goes_on_from_its_last_bookmark() -> None:
    server = Server(
        [line("ADDED", 101), line("BOOKMARK", 120), 1800.0, line("MODIFIED", 130)], [1800.0, line("DELETED", 131)], []
    )
    listener = Listener(server)
    listener.listen(3)
    assert server.since == ["100", "120", "120"]
    assert listener.lines == [line("ADDED", 101), line("MODIFIED", 130), line("DELETED", 131)]
    # Nothing was missed.
    assert (listener.starts, server.versions_asked) == (1, 1)
    assert listener.pauses == [PAUSE_SECONDS]


def test_a_server_that_ends_each_watch_after_one_event_is_not_asked_without_a_pause() -> None:
    server = Server([line("ADDED", 101)], [0.5, line("ADDED", 102)], [2.0, line("ADDED", 103)])
    listener = Listener(server)
    listener.listen(3)
    assert listener.pauses == [PAUSE_SECONDS, PAUSE_SECONDS - 0.5]
    assert (len(listener.lines), listener.starts) == (3, 1)


@pytest.mark.parametrize(
    "error",
    [b'{"type":"ERROR","object":{"code":410}}', Unavailable("watch jobs", "silence"), Forbidden("watch jobs", "no")],
)
def test_after_an_error_it_begins_anew_and_says_so(error: bytes | Exception) -> None:
    server = Server([line("BOOKMARK", 120), error], [line("ADDED", 140), 1800.0])
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
    spec, timing = WatchSpec(JOBS, "team", handle, labels="mine"), WatchTiming(70, wait=lambda _: None)
    Watcher(cast(Cluster, server), spec, timing, give_up=lambda _: None).watch_once()
    assert received == [line("ADDED", 101), line("MODIFIED", 102)]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is None) == ("ERROR", False)


def test_O23_an_error_of_any_kind_is_logged_with_its_cause_and_the_watch_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # What the client library raises while the kubelet writes a new token.
    empty = RuntimeError("Token file exists but empty.")
    listener = Listener(Server([line("ADDED", 101), empty], [empty], [line("ADDED", 140)]))
    listener.listen(3)
    assert listener.lines == [line("ADDED", 101), line("ADDED", 140)]
    # Events may have been missed.
    assert (listener.starts, listener.given_up) == (3, [])
    assert listener.pauses[:2] == [PAUSE_SECONDS] * 2
    (record,) = caplog.records
    assert "Token file exists but empty." in caplog.text
    assert (record.levelname, record.exc_info is None) == ("ERROR", False)


def test_O23_a_watch_that_can_never_work_is_given_up() -> None:
    fault = KeyError("metadata")
    broken: list[list[bytes | float | Exception]] = [[fault] for _ in range(MAX_FAULTS)]
    listener = Listener(Server(*broken[1:], [Unavailable("watch jobs", "silence")], *broken))
    listener.listen(2 * MAX_FAULTS - 1)
    assert listener.given_up == []
    listener.listen(1)
    assert listener.given_up == [fault]
