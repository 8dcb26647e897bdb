"""Two devices of one team on one server: each says that the other writes its topics, until one gives way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.document import from_json
from atoll_contract.release import DeviceReport
from atoll_edge.robot.seed_topics import Compatibility
from support.edge_agent import RunningAgent
from support.edge_release import MODEL, NAMESPACE, publish
from support.edge_robot import Robot
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


def warnings(running: RunningAgent) -> list[str]:
    found: list[str] = json.loads(running.get("/status")[1])["warnings"]
    return found


def about(running: RunningAgent, table: str) -> list[str]:
    return [text for text in warnings(running) if text.startswith(f"{table} ")]


def report(running: RunningAgent, device: str) -> DeviceReport | None:
    key = f"devices/{NAMESPACE}/{MODEL}/{device}.json"
    return None if running.bucket.head(key) is None else from_json(DeviceReport, running.bucket.get(key))


def test_E17_two_devices_that_write_the_same_topics_say_so_on_page_and_in_the_report(
    tmp_path: Path, robot: Robot, caplog: pytest.LogCaptureFixture
) -> None:
    one = RunningAgent(tmp_path / "one", robot.port, device="pi-one")
    two = RunningAgent(tmp_path / "two", robot.port, device="pi-two")
    closed = False
    try:
        publish(one.bucket, 1)
        for running, other in ((one, "atoll-pi-two"), (two, "atoll-pi-one")):
            for table in ("/ML", "/Atoll/front"):
                [text] = wait_until(lambda r=running, t=table: about(r, t), what="a warning", timeout_seconds=60)  # type: ignore[misc]
                assert f"is also written by {other}@" in text
                assert text in caplog.text
        said = wait_until(
            lambda: (found := report(one, "pi-one")) and "atoll-pi-two" in (found.error or "") and found,
            what="the device's report",
            timeout_seconds=60,
        )
        assert said
        two.close()
        closed = True
        wait_until(lambda: not warnings(one), what="the end of the warning", timeout_seconds=60)
    finally:
        one.close()
        if not closed:
            two.close()


def test_E17_devices_with_one_table_ML_and_their_own_cameras_are_content(tmp_path: Path, robot: Robot) -> None:
    one = RunningAgent(tmp_path / "one", robot.port, device="pi-one")
    two = RunningAgent(tmp_path / "two", robot.port, device="pi-two", camera="rear", compatibility=Compatibility.NONE)
    robot.watch("/Atoll/rear/heartbeat")
    try:
        beat = robot.sample("/Atoll/rear/heartbeat").value
        # Ten a second: a warning would have come.
        robot.sample("/Atoll/rear/heartbeat", lambda value: value > beat + 80)
        assert (warnings(one), warnings(two)) == ([], [])
        writers = robot.tables.publishers_of("/ML/fps")
        wait_until(lambda: [item.client.partition("@")[0] for item in writers()] == ["atoll-pi-one"], what="one writer")
    finally:
        two.close()
        one.close()
