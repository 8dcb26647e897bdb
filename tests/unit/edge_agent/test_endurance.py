"""What must not end the agent: unforeseen errors, a taken port, a network without DNS, missing keys."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from atoll_edge import agent as agents
from atoll_edge import threads as steady
from atoll_edge.agent import run_until
from atoll_edge.config import Verify
from atoll_edge.demo import free_ports
from atoll_edge.status import HealthCheck
from atoll_edge.threads import RepeatingThread
from atoll_edge.throughput import MAX_INTERVAL_SECONDS, ResultInterval
from atoll_edge.web.server import Handlers, StatusServer
from support.edge_agent import RunningAgent
from support.edge_release import publish
from support.edge_robot import Robot
from support.polling import wait_until


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_fault_does_not_end_a_thread(stopping: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def step() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            raise KeyError("nobody foresaw this")

    thread = RepeatingThread("camera", step, stopping, every_seconds=0.01)
    thread.start()
    wait_until(lambda: len(calls) > 5, what="steps after the fault")
    assert thread.healthy
    assert [record.getMessage() for record in caplog.records] == ["a fault in the thread 'camera', which goes on"]


def test_a_thread_that_only_fails_is_unhealthy(stopping: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(steady, "FAILING_SECONDS", 0.1)

    def step() -> None:
        raise OSError("the camera is gone")

    thread = RepeatingThread("camera", step, stopping)
    thread.start()
    wait_until(lambda: not thread.healthy, what="the thread's ill health")


def test_an_agent_that_no_longer_lives_ends_to_be_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd and the kubelet restart a program that ended, not one that hangs."""
    monkeypatch.setattr(agents, "HEALTH_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(agents, "DEAD_SECONDS", 0.1)
    done: list[str] = []
    status = SimpleNamespace(live=lambda: HealthCheck(False, "a thread of the pipeline ended"))
    agent = SimpleNamespace(start=lambda: done.append("start"), stop=lambda: done.append("stop"), status=status)
    assert run_until(agent, threading.Event()) is False  # type: ignore[arg-type]
    assert done == ["start", "stop"]


def site() -> Handlers:
    ok = HealthCheck(True, "live")
    return Handlers(
        status=lambda: None,  # type: ignore[arg-type, return-value]
        live=lambda: ok,
        ready=lambda: ok,
        started=lambda: ok,
        metrics=lambda: b"",
        image=lambda _: None,
    )


def page_answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_taken_page_port_is_tried_until_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll_edge.web.server.BIND_SECONDS", 0.05)
    [port] = free_ports(1)
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        server = StatusServer(site(), port)
        server.start()
    try:
        wait_until(lambda: page_answers(port), what="the page")
    finally:
        server.close()


def test_no_dns_query_for_this_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http.server` queries DNS; on a field without it, the start would wait for minutes."""

    def unanswered(*_: object) -> str:
        raise AssertionError("DNS was asked")

    monkeypatch.setattr(socket, "getfqdn", unanswered)
    server = StatusServer(site(), 0)
    server.start()
    try:
        assert page_answers(server.port)
    finally:
        server.close()


def test_a_key_that_is_not_there_keeps_new_releases_out_and_nothing_else(tmp_path: Path) -> None:
    robot = Robot()
    running = RunningAgent(tmp_path, robot.port, verify=Verify.REQUIRED, key_files=(str(tmp_path / "gone.pem"),))
    try:
        publish(running.bucket, 1)

        def refused() -> str | None:
            found = json.loads(running.get("/status")[1])["model"].get("lastRefusal")
            return found if found and "gone.pem" in found else None

        assert "No such file" in wait_until(refused, what="the refusal", timeout_seconds=60)
        assert running.get("/livez")[0] == 200
    finally:
        running.close()
        robot.close()


def test_streams_are_announced_by_address_once_there_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ["pi-front.local"]
    monkeypatch.setattr(agents, "stream_hosts", lambda *_: list(hosts))
    robot = Robot()
    robot.watch("/CameraPublisher/Axon/streams")
    running = RunningAgent(tmp_path, robot.port)
    try:
        assert len(robot.sample("/CameraPublisher/Axon/streams").value) == 1
        hosts.append("10.1.90.11")
        found = robot.sample("/CameraPublisher/Axon/streams", lambda value: len(value) == 2).value
        assert found[1].startswith("mjpg:http://10.1.90.11:")
    finally:
        running.close()
        robot.close()


def test_the_interval_is_that_of_the_slowest_part_but_not_of_a_pause() -> None:
    interval = ResultInterval()
    assert interval.seconds(0.0) == 0.0
    for now in (10.0, 10.2):
        interval.frame_arrived(now)
    interval.result_took(0.05)
    assert interval.seconds(0.0) == pytest.approx(0.2)
    assert interval.seconds(2.0) == pytest.approx(0.5)
    interval.frame_arrived(60.0)
    assert interval.seconds(0.0) == MAX_INTERVAL_SECONDS
