"""The Python sample reads both shapes from a real NT4 server."""

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables, now_us
from atoll_edge.robot.seed_topics import Compatibility
from atoll_edge.robot.topics import ActiveModel, ExtraTopics, FrameDetections, RobotTables
from atoll_edge.robot.tracker import TrackedObject
from support.edge_robot import Robot
from support.polling import wait_until

SAMPLE = Path(__file__).parents[3] / "edge" / "samples" / "python" / "detections.py"
SEEN = Observation(1, "Hatch", 0.75, 0.1, 0.2, 0.5, 0.6, yaw=-10.0, pitch=5.0, area=0.16)


@pytest.fixture(scope="module")
def sample() -> Any:
    """The sample as a module; ntcore's struct decorator wants it loaded once."""
    spec = importlib.util.spec_from_file_location("atoll_sample", SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


@pytest.fixture
def edge(robot: Robot) -> Iterator[RobotTables]:
    client = NetworkTables("edge")
    robot.connect(client)
    yield RobotTables(client, "front", compatibility=Compatibility.AXON)
    client.close()


def publish(edge: RobotTables, *seen: Observation) -> None:
    edge.active_model(ActiveModel("m-v1", "aa", 1, "cpu", ("Cargo", "Hatch")))
    edge.heartbeat(30.0, "Active")
    edge.publish(FrameDetections(1, now_us(), 640, 480, seen, 0.0, 0.0))


def test_the_robot_sees_what_the_edge_published(sample: Any, robot: Robot, edge: RobotTables) -> None:
    detections = sample.Detections("front", robot.tables.instance)
    publish(edge, SEEN)

    def best() -> Any:
        detections.update()
        return detections.best("Hatch")

    found = wait_until(best, what="the detection")
    assert (found.class_id, found.score, found.yaw) == (1, 0.75, -10.0)
    assert detections.best("Cargo") is None


def test_a_silent_device_shows_nothing(sample: Any, robot: Robot, edge: RobotTables) -> None:
    detections = sample.Detections("front", robot.tables.instance)
    assert detections.seen() == []
    publish(edge, SEEN)
    wait_until(lambda: (detections.update(), detections.seen())[1], what="the detection")
    for _ in range(sample.Detections.STALE_PERIODS):
        detections.update()
    assert not detections.alive
    assert detections.seen() == []


def test_the_nearest_object_that_is_stable_is_found(sample: Any, robot: Robot) -> None:
    client = NetworkTables("edge")
    robot.connect(client)
    edge = RobotTables(client, "rear", compatibility=Compatibility.NONE, extra=ExtraTopics(tracks=True))
    tracks = sample.Tracks("rear", robot.tables.instance)
    edge.active_model(ActiveModel("m-v1", "aa", 1, "cpu", ("Cargo", "Hatch")))
    edge.heartbeat(30.0, "Active")

    def followed(number: int, *, frames: int = 5, missed: int = 0, distance: float = 0.0, class_id: int = 1) -> Any:
        seen = dataclasses.replace(SEEN, distance=distance, class_id=class_id, xmax=0.3 + number / 100)
        return TrackedObject(number, seen, frames, missed, 1.0, 0.0, 0.0)

    def nearest(*objects: Any) -> int | None:
        edge.publish(FrameDetections(1, now_us(), 640, 480, (), 0.0, 0.0, objects))
        wait_until(lambda: (tracks.update(), len(tracks._tracks.get()) == len(objects))[1], what="the tracks")
        found = tracks.nearest("Hatch")
        return None if found is None else found.id

    try:
        assert nearest(followed(1, frames=4), followed(2, missed=1), followed(3, class_id=0)) is None
        assert nearest(followed(4, distance=2.0), followed(5, distance=1.0)) == 5
        assert nearest(followed(6), followed(7), followed(8, frames=1)) == 7
        assert nearest(followed(9, distance=3.0), followed(10), followed(11), followed(12)) == 9
    finally:
        client.close()


def test_code_of_2021_reads_the_json(sample: Any, robot: Robot, edge: RobotTables) -> None:
    publish(edge, SEEN)
    [found] = wait_until(lambda: sample.axon_detections(robot.tables.instance), what="the detection")
    assert found == {
        "label": "Hatch",
        "box": {"ymin": 96, "xmin": 64, "ymax": 288, "xmax": 320},
        "confidence": 0.75,
    }
