"""When the operator calls itself ready, and what it says while the API server is silent."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from atoll_operator.health import REPORT_EVERY_SECONDS, ApiReach, serve_pages
from cluster.processes import free_port
from support.device_reports import Clock
from support.kubeconfig import kubeconfig
from support.polling import wait_until


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def test_P21_a_silent_server_is_told_once_a_minute_with_the_value_to_look_at(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    reach = ApiReach(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(int(REPORT_EVERY_SECONDS) + 1):
            reach.observe(0)
            clock.now += 1.0
    first, second = (record.getMessage() for record in caplog.records)
    assert "networkPolicy.apiServerPorts" in first
    assert "of the first 60 s" in second
    assert reach.problem()


@pytest.mark.parametrize("status", [200, 403, 503])
def test_any_answer_ends_it_for_good(status: int, caplog: pytest.LogCaptureFixture) -> None:
    reach = ApiReach(Clock())
    reach.observe(status)
    reach.observe(0)
    assert reach.problem() == ""
    assert caplog.records == []


def test_a_probe_answers_at_its_path_and_the_metrics_at_every_other() -> None:
    registry, problems = CollectorRegistry(), ["no Lease"]
    Gauge("atoll_leader", "", registry=registry).set(1)
    server = serve_pages(0, {"/readyz": lambda: problems[0]}, registry)
    try:
        assert ask(server.server_port, "/readyz") == (503, "no Lease\n")
        problems[0] = ""
        assert ask(server.server_port, "/readyz") == (200, "ok\n")
        assert "atoll_leader 1.0" in ask(server.server_port, "/metrics")[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Metrics port and log of an operator whose API server is a closed port."""
    config, log, port = tmp_path / "kubeconfig", tmp_path / "log", free_port()
    config.write_text(kubeconfig({"server": f"https://127.0.0.1:{free_port()}"}, token="none"))
    environment = os.environ | {
        "KUBECONFIG": str(config),
        "ATOLL_METRICS_PORT": str(port),
        "ATOLL_LIVENESS": "",
        "ATOLL_LOG_FORMAT": "text",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "atoll_operator.main"], env=environment, stdout=output, stderr=output
        )
        try:
            yield port, log
        finally:
            process.kill()
            process.wait(10)


def test_P21_an_operator_that_has_not_reached_the_api_server_is_not_ready(cut_off: tuple[int, Path]) -> None:
    port, log = cut_off
    wait_until(lambda: "networkPolicy.apiServerPorts" in log.read_text(), what="the advice in the log")
    status, text = ask(port, "/readyz")
    assert status == 503
    assert text.startswith("the API server has answered none of the calls")
