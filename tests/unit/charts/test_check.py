"""The script that `helm test` runs tells why the operator is not at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from atoll_operator.health import READY_PATH, serve_pages
from support.charts import CHART

SCRIPT = CHART / "files" / "check.py"


class Operator:
    """Its page, with what a test says of it."""

    def __init__(self) -> None:
        self.problem = ""
        registry = CollectorRegistry()
        self.leader = Gauge("atoll_leader", "", registry=registry)
        self.server = serve_pages(0, {READY_PATH: lambda: self.problem}, registry)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/metrics"


@pytest.fixture
def operator() -> Iterator[Operator]:
    operator = Operator()
    yield operator
    operator.server.shutdown()
    operator.server.server_close()


@pytest.fixture
def not_ready() -> Callable[[str], str]:
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.endswith("\nmain()\n")
    names: dict[str, Callable[[str], str]] = {}
    exec(compile(text.removesuffix("main()\n"), str(SCRIPT), "exec"), names)
    return names["not_ready"]


def test_an_operator_that_leads_is_at_work(operator: Operator, not_ready: Callable[[str], str]) -> None:
    operator.leader.set(1)
    assert not_ready(operator.url) == ""


def test_one_that_is_not_ready_says_why(operator: Operator, not_ready: Callable[[str], str]) -> None:
    operator.problem = "the API server has answered none of the calls"
    assert not_ready(operator.url) == operator.problem


def test_one_that_stands_by_is_not_the_one_at_work(operator: Operator, not_ready: Callable[[str], str]) -> None:
    assert not_ready(operator.url) == "it does not hold the Lease"
