"""Two programs that write the same topics on one server: each is told, by the name that the server gives the other."""

import logging
from collections.abc import Iterator

import pytest

from atoll_edge.robot.foreign import ForeignPublishers
from atoll_edge.robot.networktables import NetworkTables
from support.edge_robot import Robot
from support.polling import wait_until

TOPICS = {"/ML/detections": ("/ML", "Switch it off."), "/Atoll/front/heartbeat": ("/Atoll/front", "Rename it.")}


@pytest.fixture
def other() -> Iterator[NetworkTables]:
    tables = NetworkTables("rear")
    yield tables
    tables.close()


def told(watch: ForeignPublishers, now: float = 100.0) -> tuple[str, ...]:
    """What is said once a few seconds have passed since now."""
    watch.step(now)
    watch.step(now + 5.0)
    return watch.warnings


def connected(robot: Robot, *clients: NetworkTables) -> None:
    for client in clients:
        robot.connect(client)
        client.strings("/ML/detections").set("[]")


def test_another_client_is_named_with_its_address(
    robot: Robot, client: NetworkTables, other: NetworkTables, caplog: pytest.LogCaptureFixture
) -> None:
    connected(robot, client, other)
    watch = ForeignPublishers(client, TOPICS)
    with caplog.at_level(logging.WARNING):
        [text] = wait_until(lambda: told(watch), what="a warning")
    assert text.startswith("/ML is also written by rear@")
    assert " at 127.0.0.1; robot code gets the values of both in turn. Switch it off." in text
    assert text in caplog.text


def test_a_copied_card_is_told_by_its_name(robot: Robot, client: NetworkTables) -> None:
    twin = NetworkTables("edge")
    try:
        connected(robot, client, twin)
        watch = ForeignPublishers(client, TOPICS)
        [text] = wait_until(lambda: told(watch), what="a warning")
    finally:
        twin.close()
    assert "which has this device's name (set `device` on one of them)" in text


def test_a_device_that_serves_itself_and_a_robots_own_program_are_told(robot: Robot, client: NetworkTables) -> None:
    connected(robot, client)
    robot.tables.strings("/ML/detections").set("[]")
    for tables, named in ((client, "the robot's own program"), (robot.tables, "edge@")):
        watch = ForeignPublishers(tables, TOPICS)
        [text] = wait_until(lambda watch=watch: told(watch), what="a warning")  # type: ignore[misc]
        assert named in text


def test_alone_nothing_is_said_and_a_connection_that_has_just_broken_does_not_count(
    robot: Robot, client: NetworkTables, other: NetworkTables
) -> None:
    connected(robot, client, other)
    watch = ForeignPublishers(client, TOPICS)
    wait_until(lambda: told(watch), what="a warning")
    other._stop()
    wait_until(lambda: not told(watch, 200.0), what="the end of the warning")
    again = NetworkTables("rear")
    connected(robot, again)
    seen = client.publishers_of("/ML/detections")
    wait_until(lambda: len(seen()) == 2, what="the other one again")
    watch.step(300.0)
    watch.step(304.9)
    again.close()
    assert watch.warnings == ()
