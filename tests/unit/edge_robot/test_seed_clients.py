"""Robot code of each generation of the seed reads the boxes that were seen.

Each reader does what the robot code of its time did with the entries of table `ML`; the one published example whose
loop was wrong is not among them.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables, now_us
from atoll_edge.robot.seed_topics import Compatibility
from atoll_edge.robot.topics import FrameDetections, RobotTables
from support.edge_robot import Robot

SEEN = (
    Observation(0, "Power Cell", 0.754, 0.1, 0.2, 0.5, 0.6, 0.0, 0.0, 0.16),
    Observation(1, "Hatch", 0.5, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0),
)
ENTRIES = ("detections", "nb_objects", "nb_boxes", "object_classes", "boxes_names", "boxes")
# Label, left, top, right, bottom: in pixels of 320×240 for 2019 and 2020, of the frame for 2021.
SMALL = [("Power Cell", 32, 48, 160, 144), ("Hatch", 0, 0, 320, 240)]
WHOLE = [("Power Cell", 64, 96, 320, 288), ("Hatch", 0, 0, 640, 480)]

Read = list[tuple[str, float, float, float, float]]


def read_2019_august(table: dict[str, Any]) -> Read:
    boxes = table["boxes"]
    return [(table["boxes_names"][i], *boxes[4 * i : 4 * i + 4]) for i in range(int(table["nb_boxes"]))]


def read_2019_december(table: dict[str, Any]) -> Read:
    boxes = table["boxes"]
    return [(table["object_classes"][i], *boxes[4 * i : 4 * i + 4]) for i in range(int(table["nb_objects"]))]


def read_2020(table: dict[str, Any]) -> Read:
    found = json.loads(table["detections"])
    assert [item["confidence"] for item in found] == [75, 50]
    return [(item["name"], *item["box"][0], *item["box"][1]) for item in found]


def read_2021(table: dict[str, Any]) -> Read:
    found = json.loads(table["detections"])
    assert [item["confidence"] for item in found] == [0.754, 0.5]
    return [(item["label"], *(item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax"))) for item in found]


@pytest.mark.parametrize(
    ("read", "shape", "expected"),
    [
        (read_2019_august, Compatibility.AXON, SMALL),
        (read_2019_december, Compatibility.AXON, SMALL),
        (read_2019_august, Compatibility.DETECTCORAL, SMALL),
        (read_2020, Compatibility.DETECTCORAL, SMALL),
        (read_2021, Compatibility.AXON, WHOLE),
    ],
)
def test_each_generation_reads_the_right_boxes(
    robot: Robot,
    client: NetworkTables,
    read: Callable[[dict[str, Any]], Read],
    shape: Compatibility,
    expected: Read,
) -> None:
    robot.connect(client)
    robot.watch(*(f"/ML/{name}" for name in ENTRIES))
    edge = RobotTables(client, "front", compatibility=shape)
    edge.publish(FrameDetections(1, now_us(), 640, 480, SEEN, 0.0, 0.0))
    table = {name: robot.sample(f"/ML/{name}").value for name in ENTRIES}
    seen = read(table)
    assert [label for label, *_ in seen] == [label for label, *_ in expected]
    for (_, *box), (_, *wanted) in zip(seen, expected, strict=True):
        assert box == pytest.approx(wanted, abs=1)
