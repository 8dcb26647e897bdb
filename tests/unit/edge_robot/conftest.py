"""A robot, and a client with the tables of one camera."""

from collections.abc import Iterator

import pytest

from atoll_edge.robot.networktables import NetworkTables
from atoll_edge.robot.seed_topics import Compatibility
from atoll_edge.robot.topics import RobotTables
from support.edge_robot import Robot


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


@pytest.fixture
def client() -> Iterator[NetworkTables]:
    tables = NetworkTables("edge")
    yield tables
    tables.close()


@pytest.fixture
def edge(robot: Robot, client: NetworkTables) -> RobotTables:
    robot.connect(client)
    return RobotTables(client, "front", compatibility=Compatibility.AXON)
