"""What the metrics count, and when the API server last reported something."""

from __future__ import annotations

from atoll_operator.controller.metrics import OperatorMetrics
from support.fake_cluster import FakeClock


def test_each_call_is_counted_by_method_kind_and_answer() -> None:
    metrics = OperatorMetrics()
    for status in (200, 200, 0):
        metrics.observe_call("GET", "jobs", status, 0.02)
    value = metrics.registry.get_sample_value
    labels = {"method": "GET", "resource": "jobs"}
    assert value("atoll_api_requests_total", labels | {"code": "200"}) == 2
    assert value("atoll_api_requests_total", labels | {"code": "0"}) == 1
    assert value("atoll_api_request_seconds_count", {"method": "GET"}) == 3


def test_the_silence_of_the_api_server_is_measured_from_its_last_event() -> None:
    clock = FakeClock()
    metrics = OperatorMetrics(clock=clock)
    clock.advance(100)
    assert metrics.registry.get_sample_value("atoll_seconds_since_event") == 100
    metrics.on_event()
    clock.advance(5)
    assert metrics.seconds_since_event() == 5
