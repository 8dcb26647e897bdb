"""Every topic of the robot's tables reaches a real NT4 server with its type, value and time of capture."""

import dataclasses
import math

import pytest

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables, now_us
from atoll_edge.robot.seed_topics import Compatibility
from atoll_edge.robot.topics import (
    SCHEMA,
    TRACK_SCHEMA,
    ActiveModel,
    ExtraTopics,
    FrameDetections,
    RobotRequests,
    RobotTables,
    detection_struct,
    track_struct,
)
from atoll_edge.robot.tracker import TrackedObject
from support.edge_robot import Robot
from support.polling import wait_until

CARGO = Observation(0, "Power Cell", 0.75, 0.1, 0.2, 0.5, 0.6, yaw=-10.0, pitch=5.0, area=0.16)
SERVING = ActiveModel("cargo-v3", "ab" * 32, 3, "edgetpu", ("Power Cell", "Hatch"))
TYPES = {
    "/ML/detections": "string",
    "/ML/nb_objects": "double",
    "/ML/nb_boxes": "double",
    "/ML/object_classes": "string[]",
    "/ML/boxes_names": "string[]",
    "/ML/boxes": "double[]",
    "/ML/coral": "string",
    "/ML/fps": "double",
    "/ML/resolution": "string",
    "/Atoll/front/detections": "struct:Detection[]",
    "/Atoll/front/labels": "string[]",
    "/Atoll/front/frameSeq": "int",
    "/Atoll/front/heartbeat": "int",
    "/Atoll/front/fps": "double",
    "/Atoll/front/latencyMillis": "double",
    "/Atoll/front/captureLatencyMillis": "double",
    "/Atoll/front/backend": "string",
    "/Atoll/front/modelDigest": "string",
    "/Atoll/front/modelName": "string",
    "/Atoll/front/modelSeq": "int",
    "/Atoll/front/state": "string",
}


def detections(*observations: Observation, frame: int = 7, captured_us: int | None = None) -> FrameDetections:
    when = now_us() if captured_us is None else captured_us
    return FrameDetections(frame, when, 640, 480, observations, capture_latency_millis=4.5, latency_millis=12.5)


def publish_everything(edge: RobotTables, captured_us: int) -> None:
    edge.resolution(640, 480)
    edge.active_model(SERVING)
    edge.heartbeat(29.5, "Active")
    edge.publish(detections(CARGO, captured_us=captured_us))


def test_every_topic_has_its_type(robot: Robot, edge: RobotTables) -> None:
    publish_everything(edge, now_us())
    assert {topic: robot.type_of(topic) for topic in TYPES} == TYPES


def test_values_arrive_as_they_were_given(robot: Robot, edge: RobotTables) -> None:
    robot.watch(*TYPES)
    publish_everything(edge, now_us())
    expected = {
        "/ML/nb_objects": 1.0,
        "/ML/nb_boxes": 1.0,
        "/ML/object_classes": ["Power Cell"],
        "/ML/boxes_names": ["Power Cell"],
        "/ML/coral": "Coral Edge TPU",
        "/ML/fps": 29.5,
        "/ML/resolution": "640, 480",
        "/Atoll/front/labels": ["Power Cell", "Hatch"],
        "/Atoll/front/frameSeq": 7,
        "/Atoll/front/heartbeat": 1,
        "/Atoll/front/fps": 29.5,
        "/Atoll/front/latencyMillis": 12.5,
        "/Atoll/front/captureLatencyMillis": 4.5,
        "/Atoll/front/backend": "edgetpu",
        "/Atoll/front/modelDigest": "ab" * 32,
        "/Atoll/front/modelName": "cargo-v3",
        "/Atoll/front/modelSeq": 3,
        "/Atoll/front/state": "Active",
    }
    assert {topic: robot.sample(topic).value for topic in expected} == expected


def test_structured_detections_hold_every_field(robot: Robot, edge: RobotTables) -> None:
    samples = robot.struct_reader("/Atoll/front/detections", detection_struct())
    edge.publish(detections(CARGO))
    [(_, [seen])] = samples(1)
    read = {field.split()[1]: getattr(seen, field.split()[1]) for field in SCHEMA.split("; ")}
    assert read == pytest.approx(
        {
            "class_id": 0,
            "score": 0.75,
            "xmin": 0.1,
            "ymin": 0.2,
            "xmax": 0.5,
            "ymax": 0.6,
            "yaw": -10.0,
            "pitch": 5.0,
            "area": 0.16,
        }
    )


def test_the_struct_is_36_bytes_and_its_schema_is_published(robot: Robot, edge: RobotTables) -> None:
    from wpiutil import wpistruct

    edge.publish(detections(CARGO))
    robot.watch("/.schema/struct:Detection")
    assert wpistruct.getSize(detection_struct()) == 36
    assert bytes(robot.sample("/.schema/struct:Detection").value).decode() == SCHEMA


def test_values_of_a_frame_carry_its_time_of_capture(robot: Robot, edge: RobotTables, client: NetworkTables) -> None:
    seed = ("detections", "boxes", "nb_objects", "nb_boxes", "object_classes", "boxes_names")
    own = ("frameSeq", "latencyMillis", "captureLatencyMillis")
    topics = [*(f"/ML/{name}" for name in seed), *(f"/Atoll/front/{name}" for name in own)]
    robot.watch(*topics)
    structs = robot.struct_reader("/Atoll/front/detections", detection_struct())
    offset = wait_until(lambda: [client.instance.getServerTimeOffset()], what="the clocks' offset")[0] or 0
    captured = now_us() - 40_000
    edge.publish(detections(CARGO, captured_us=captured))
    # The offset is measured again and again; a millisecond is what may lie between two measurements here.
    times = [robot.sample(topic).time_us for topic in topics] + [time_us for time_us, _ in structs(1)]
    assert times == pytest.approx([captured + offset] * (len(topics) + 1), abs=1000)


def test_distances_are_in_the_order_of_the_detections(robot: Robot, client: NetworkTables) -> None:
    robot.connect(client)
    robot.watch("/Atoll/rear/distances")
    edge = RobotTables(client, "rear", compatibility=Compatibility.NONE, extra=ExtraTopics(distances=True))
    edge.publish(detections(dataclasses.replace(CARGO, distance=1.5), CARGO))
    assert robot.sample("/Atoll/rear/distances", lambda value: value != []).value == [1.5, 0.0]


def test_distances_come_with_the_first_that_is_known(robot: Robot, client: NetworkTables) -> None:
    """A release with widths may follow one without."""
    robot.connect(client)
    robot.watch("/Atoll/rear/distances")
    edge = RobotTables(client, "rear", compatibility=Compatibility.NONE)
    edge.publish(detections(CARGO))
    assert edge._distances is None
    edge.publish(detections(dataclasses.replace(CARGO, distance=2.0)))
    edge.publish(detections(CARGO))
    assert robot.sample("/Atoll/rear/distances", lambda value: value == [0.0]).value == [0.0]


def test_tracks_arrive_as_structs_and_as_plain_numbers(robot: Robot, client: NetworkTables) -> None:
    robot.connect(client)
    samples = robot.struct_reader("/Atoll/rear/tracks", track_struct())
    robot.watch("/Atoll/rear/trackValues")
    edge = RobotTables(client, "rear", compatibility=Compatibility.NONE, extra=ExtraTopics(tracks=True))
    track = TrackedObject(7, CARGO, frames=5, missed=1, age=0.5, velocity_x=0.25, velocity_y=-0.125)
    edge.publish(dataclasses.replace(detections(), tracks=(track, track)))
    [(_, [seen, _])] = samples(1)
    values = {name: getattr(seen, name) for name in (field.split()[1] for field in TRACK_SCHEMA.split("; "))}
    expected = (7, 0, 5, 1, 0.5, 0.75, 0.1, 0.2, 0.5, 0.6, 0.25, -0.125, -10.0, 5.0, 0.0)
    assert list(values.values()) == pytest.approx(expected)
    plain = robot.sample("/Atoll/rear/trackValues", lambda value: len(value) == 30).value
    assert plain == pytest.approx(expected * 2)
    edge.publish(detections())
    assert robot.sample("/Atoll/rear/trackValues", lambda value: value == []).value == []


def test_equal_frames_all_arrive(robot: Robot, edge: RobotTables) -> None:
    samples = robot.struct_reader("/Atoll/front/detections", detection_struct())
    edge.publish(detections(frame=0))
    samples(1)
    for frame in range(1, 20):
        edge.publish(detections(frame=frame))
    assert [values for _, values in samples(20)] == [[]] * 20


def test_an_empty_list_is_published_when_nothing_is_seen(robot: Robot, edge: RobotTables) -> None:
    robot.watch("/ML/detections", "/ML/boxes", "/ML/nb_objects")
    edge.publish(detections(CARGO))
    robot.sample("/ML/nb_objects", lambda value: value == 1.0)
    edge.publish(detections())
    assert robot.sample("/ML/nb_objects", lambda value: value == 0.0).value == 0.0
    assert robot.sample("/ML/detections", lambda value: value == "[]").value == "[]"
    assert robot.sample("/ML/boxes", lambda value: value == []).value == []


def test_the_robots_requests_are_read(robot: Robot, edge: RobotTables) -> None:
    assert edge.requests().enabled
    robot.tables.booleans("/Atoll/front/enabledRequest").set(False)
    robot.tables.doubles("/Atoll/front/minScoreRequest").set(0.9)
    robot.tables.doubles("/Atoll/front/fpsLimitRequest").set(5.0)
    wait_until(lambda: edge.requests().fps_limit == 5.0, what="the robot's requests")
    assert not edge.requests().enabled
    assert edge.requests().min_score == 0.9


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_request_that_is_no_number_asks_for_nothing(robot: Robot, edge: RobotTables, value: float) -> None:
    score, limit = (robot.tables.doubles(f"/Atoll/front/{name}Request") for name in ("minScore", "fpsLimit"))
    score.set(0.9)
    limit.set(5.0)
    wait_until(lambda: edge.requests().fps_limit == 5.0, what="the robot's requests")
    limit.set(value)
    score.set(value)
    nothing = RobotRequests(enabled=True, min_score=0.0, fps_limit=0.0)
    wait_until(lambda: edge.requests() == nothing, what="nothing to be asked for")


def test_labels_outlive_the_client(robot: Robot, edge: RobotTables, client: NetworkTables) -> None:
    robot.watch("/Atoll/front/labels")
    edge.active_model(SERVING)
    robot.sample("/Atoll/front/labels")
    client._stop()
    wait_until(lambda: not robot.tables.peers, what="the client to be gone")
    assert robot.sample("/Atoll/front/labels").value == ["Power Cell", "Hatch"]


def test_what_a_closed_instance_left_behind_does_not_touch_the_next_one() -> None:
    """ntcore gives a destroyed instance's number to the next one: a handle collected late must not close anything."""
    first = NetworkTables("first")
    left: list[object] = [first.integer_reader(f"/reader/{number}", 0) for number in range(4)]
    left += [first.strings(f"/publisher/{number}").set for number in range(4)]
    first.close()
    second = NetworkTables("second")
    published, read = second.integers("/value"), second.integer_reader("/value", 0)
    left.clear()
    try:
        published.set(7)
        assert read() == 7
    finally:
        second.close()
