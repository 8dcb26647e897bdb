"""The report of a real agent can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_operator.devices.reports import ReportReader, StoredReport
from support.edge_agent import DEVICE, RunningAgent
from support.edge_release import MODEL, NAMESPACE
from support.edge_robot import Robot
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


def test_the_report_of_a_device_without_a_release_is_read(tmp_path: Path, robot: Robot) -> None:
    running = RunningAgent(tmp_path, robot.port)

    def stored() -> StoredReport | None:
        return ReportReader(running.bucket, NAMESPACE).read().by_device.get(DEVICE)

    try:
        found = wait_until(stored, what="the device's report", timeout_seconds=60)
    finally:
        running.close()
    assert found.problem is None
    assert found.report is not None
    assert (found.model, found.report.state, found.report.release) == (MODEL, "NoModel", None)
