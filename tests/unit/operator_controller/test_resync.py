"""When what is listed, and that a namespace which cannot be read stops no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from atoll_operator.controller.lists import Due, Found, RunLister
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.resync import Resync
from atoll_operator.controller.workqueue import Key
from atoll_operator.kube.errors import ClusterError, Forbidden, Unavailable

GONE = Forbidden("list trainingruns team-b", 'forbidden: cannot list resource "trainingruns" in namespace "team-b"')
BUSY = Unavailable("list trainingruns team-b", "no answer")


@dataclass
class Lists(RunLister):
    """What each namespace answers, and which were asked."""

    found: dict[str | None, Found | ClusterError]
    asked: list[str | None] = field(default_factory=list)

    def list_all(self, namespace: str | None) -> Found:
        self.asked.append(namespace)
        answer = self.found[namespace]
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    def list_jobs(self, namespace: str | None, finished: object = None) -> list[Due]:
        self.list_all(namespace)
        return []


@dataclass
class Scene:
    lists: Lists
    resync: Resync
    added: list[Due]
    metrics: OperatorMetrics

    def unreadable(self, namespace: str) -> float | None:
        return self.metrics.registry.get_sample_value("atoll_namespace_unreadable", {"namespace": namespace})

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


def play(found: dict[str | None, Found | ClusterError], act: Callable[[Scene], Awaitable[None]]) -> Scene:
    """Runs a resync of these namespaces while `act` goes on. The regular one is an hour away."""

    async def scenario() -> Scene:
        added: list[Due] = []
        lists, metrics = Lists(found), OperatorMetrics()
        named = [namespace for namespace in found if namespace is not None]
        resync = Resync(
            lists,
            namespaces=named,
            every=3600,
            add=lambda key, delay: added.append((key, delay)),
            metrics=metrics,
        )
        scene = Scene(lists, resync, added, metrics)
        running = asyncio.create_task(resync.run())
        await act(scene)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return scene

    return asyncio.run(scenario())


def keys(*names: str, namespace: str = "team-a") -> list[Key]:
    return [(namespace, name) for name in names]


def test_runs_that_are_not_over_come_first() -> None:
    async def act(scene: Scene) -> None:
        await scene.resync.synced.wait()

    old = Found(keys("new"), [(("team-a", "old"), 0.0)])
    scene = play({"team-a": old, "team-b": Found(keys("newer", namespace="team-b"))}, act)
    assert scene.added == [(("team-a", "new"), 0.0), (("team-b", "newer"), 0.0), (("team-a", "old"), 0.0)]


def test_O26_a_namespace_that_cannot_be_read_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def act(scene: Scene) -> None:
        await scene.resync.synced.wait()
        assert [key for key, _ in scene.added] == keys("one")
        assert (scene.unreadable("team-a"), scene.unreadable("team-b")) == (0.0, 1.0)
        scene.resync.request("team-b")
        await scene.until(lambda: scene.lists.asked.count("team-b") == 2)
        assert await scene.resync.list_jobs()
        (record,) = caplog.records
        assert "team-b" in record.getMessage()
        scene.lists.found["team-b"] = Found(keys("two", namespace="team-b"))
        scene.resync.request("team-b")
        await scene.until(lambda: len(scene.added) == 2)
        assert scene.unreadable("team-b") == 0.0

    play({"team-a": Found(keys("one")), "team-b": GONE}, act)
    assert [record.getMessage() for record in caplog.records[1:]] == ["namespace team-b can be read again"]


@pytest.mark.parametrize("namespace", [None, "team-b"])
def test_a_server_that_cannot_answer_is_asked_again(namespace: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll_operator.controller.resync.RETRY_SECONDS", 0.01)

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.lists.asked.count(namespace) >= 2)
        assert not scene.resync.synced.is_set()
        assert not await scene.resync.list_jobs()
        scene.lists.found[namespace] = Found()
        await asyncio.wait_for(scene.resync.synced.wait(), 20)

    play({namespace: BUSY}, act)


def test_without_named_namespaces_a_missing_right_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll_operator.controller.resync.RETRY_SECONDS", 0.01)

    async def act(scene: Scene) -> None:
        await scene.until(lambda: len(scene.lists.asked) >= 2)
        assert not scene.resync.synced.is_set()

    play({None: GONE}, act)


def test_watches_that_begin_at_about_the_same_time_cost_one_list() -> None:
    async def act(scene: Scene) -> None:
        for _ in range(3):
            scene.resync.request("team-a")
        await scene.resync.synced.wait()
        await scene.until(lambda: scene.lists.asked == ["team-a"])
        scene.resync.request("team-a")
        await scene.until(lambda: scene.lists.asked == ["team-a"] * 2)

    play({"team-a": Found()}, act)
