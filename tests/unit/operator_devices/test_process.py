"""Settings, health and metrics of the process that shows devices."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request

import pytest

from atoll_operator.config import ConfigError
from atoll_operator.devices.config import DeviceSettings, from_environment
from atoll_operator.devices.main import Health, JsonFormatter
from atoll_operator.devices.metrics import DeviceMetrics
from atoll_operator.health import serve_pages
from support.device_reports import Clock

NAMED = {"ATOLL_MIRROR_NAMESPACE": "team-190", "ATOLL_MIRROR_STORE": "default"}


def test_defaults_need_namespace_and_store_alone() -> None:
    assert from_environment(NAMED) == DeviceSettings("team-190", "default")


@pytest.mark.parametrize(
    "environ",
    [
        {"ATOLL_MIRROR_STORE": "default"},
        {"ATOLL_MIRROR_NAMESPACE": "team-190"},
        NAMED | {"ATOLL_MIRROR_INTERVAL_SECONDS": "0"},
        NAMED | {"ATOLL_MIRROR_OFFLINE_SECONDS": "soon"},
        NAMED | {"ATOLL_MIRROR_PORT": "-1"},
        NAMED | {"ATOLL_LOG_FORMAT": "xml"},
    ],
)
def test_an_invalid_setting_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="ATOLL_"):
        from_environment(environ)


def test_the_page_shows_health_readiness_and_metrics() -> None:
    clock, metrics = Clock(), DeviceMetrics()
    health = Health(clock=clock, timeout_seconds=600.0)
    server = serve_pages(0, health.probes, metrics.registry)
    try:
        assert _ask(server.server_port, "/healthz")[0] == 200
        assert _ask(server.server_port, "/readyz")[0] == 503
        health.ready = True
        assert _ask(server.server_port, "/readyz")[0] == 200
        clock.now = 601.0
        assert _ask(server.server_port, "/healthz")[0] == 503
        health.heartbeat()
        assert _ask(server.server_port, "/healthz")[0] == 200
        metrics.show_devices(["True", "False", "True"])
        assert 'atoll_mirror_devices{ready="True"} 2.0' in _ask(server.server_port, "/metrics")[1]
    finally:
        server.shutdown()
        server.server_close()


def test_log_lines_are_json() -> None:
    record = logging.LogRecord("mirror", logging.WARNING, "", 0, "left alone: %s", ('a "key"\n',), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["severity"]) == ('left alone: a "key"\n', "warn")


def _ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
