"""Two cameras of one agent: equal shares of one detector, and the whole of it for one when the other is unplugged."""

import functools
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_edge.agent import Agent
from atoll_edge.config import CameraConfig, EdgeConfig, HttpConfig, StreamConfig, TracksConfig
from atoll_edge.demo import free_ports
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.pipeline import Pipeline
from atoll_edge.robot.topics import detection_struct, track_struct
from support.edge_robot import Robot
from support.polling import wait_until
from support.scripted_detector import COMMAND

pytestmark = pytest.mark.timeout(300)

# Longer than half of a frame's time at 30 frames/s: two cameras want more than the detector can do.
DETECTOR_SECONDS = 0.05


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, robot: Robot) -> Iterator[Agent]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"cpu": {"seconds": DETECTOR_SECONDS}}))
    monkeypatch.setenv("EDGE_SCRIPT", str(script))
    ports = free_ports(5)
    config = EdgeConfig(
        device="pi",
        nt_server=f"127.0.0.1:{robot.port}",
        cameras=tuple(
            CameraConfig(name=name, path="synthetic", fps=30, raw_port=raw, annotated_port=annotated)
            for name, raw, annotated in zip(("front", "rear"), ports[:2], ports[2:4], strict=True)
        ),
        tracks=TracksConfig(enabled=True),
        streams=StreamConfig(),
        http=HttpConfig(port=ports[4]),
    )
    model = LoadedModelSpec("v1", "aa", 1, ("a",), (0.5,), tmp_path / "cpu.tflite")
    spawn = functools.partial(DetectorClient, command=COMMAND)
    detector = DetectorManager(BackendChoice("cpu"), threads=1, spawn=spawn)
    agent = Agent(config, lambda detector, *_: FixedModelManager(model, detector), detector=detector)
    agent.start()
    yield agent
    agent.stop()


def results(agent: Agent) -> Counter[str]:
    return Counter({pipeline.name: pipeline.results for pipeline in agent.pipelines})


def after(agent: Agent, count: int) -> Counter[str]:
    """The results of each camera among so many from now on."""
    before = results(agent)
    wait_until(lambda: (results(agent) - before).total() >= count, what=f"{count} results", timeout_seconds=120)
    return results(agent) - before


def unplug(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.source, "grab", time.sleep)
    monkeypatch.setattr(pipeline.source, "connected", False)


def test_E26_each_of_two_cameras_gets_half_and_the_other_all_when_one_is_unplugged(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, rear = agent.pipelines
    after(agent, 10)
    shares = after(agent, 200)
    assert shares["front"] == pytest.approx(shares.total() / 2, rel=0.1)
    assert shares["rear"] == pytest.approx(shares.total() / 2, rel=0.1)
    unplug(rear, monkeypatch)
    # A second of the detector: what was on its way, and from then on the other camera alone.
    assert after(agent, round(1 / DETECTOR_SECONDS))["rear"] <= 3
    assert after(agent, 20)["rear"] == 0
    wait_until(lambda: "rear" in agent.status.ready().reason, what="the missing camera")
    ready = agent.status.ready()
    assert ready.ok
    assert ready.reason == "ready; no frame of the camera rear for 2 s"
    status = agent.status.status()
    assert [camera.connected for camera in status.cameras] == [True, False]
    assert status.cameras[0].dropped == front.dropped


def test_each_camera_has_its_topics_streams_image_and_metrics(agent: Agent, robot: Robot) -> None:
    robot.watch("/Atoll/front/frameSeq", "/Atoll/rear/frameSeq", "/ML/nb_objects", "/CameraPublisher/Axon-rear/streams")
    readers = {name: robot.struct_reader(f"/Atoll/{name}/detections", detection_struct()) for name in ("front", "rear")}
    for reader in readers.values():
        reader(5)
    assert robot.sample("/ML/nb_objects").value in (0.0, 1.0)
    writers = robot.tables.publishers_of("/ML/detections")
    wait_until(lambda: len(writers()) == 1, what="the one writer of ML")
    rear = agent.config.cameras[1]
    [url, *_] = robot.sample("/CameraPublisher/Axon-rear/streams").value
    assert url.endswith(f":{rear.annotated_port}/?action=stream")
    with urllib.request.urlopen(f"http://127.0.0.1:{rear.annotated_port}/stream.mjpg", timeout=20) as stream:
        assert b"\xff\xd8\xff" in stream.read(4096)
    metrics = got(agent, "/metrics").decode()
    for name in ("front", "rear"):
        assert got(agent, f"/picture.jpg?camera={name}").startswith(b"\xff\xd8\xff")
        assert f'atoll_edge_camera_connected{{camera="{name}"}} 1.0' in metrics
        assert f'atoll_edge_frames_total{{camera="{name}"}}' in metrics
        assert f'atoll_edge_capture_to_publish_seconds_count{{camera="{name}"}}' in metrics
    status = json.loads(got(agent, "/status"))
    assert [camera["name"] for camera in status["cameras"]] == ["front", "rear"]
    assert status["fps"] == pytest.approx(sum(camera["fps"] for camera in status["cameras"]), abs=0.1)


def got(agent: Agent, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{agent.server.port}{path}", timeout=20) as answer:
        return answer.read()


def test_each_camera_follows_its_own_objects(agent: Agent, robot: Robot) -> None:
    """The scripted detector finds the same box in every frame."""
    for name in ("front", "rear"):
        samples = robot.struct_reader(f"/Atoll/{name}/tracks", track_struct())
        [first], *_, [last] = [tracks for _, tracks in samples(20) if tracks]
        assert (first.id, last.id, last.missed) == (1, 1, 0)
        assert last.frames >= first.frames + 10
        assert last.age > first.age
        assert last.velocity_x == pytest.approx(0)


def test_a_robot_pauses_one_camera_and_the_other_gets_the_detector(agent: Agent, robot: Robot) -> None:
    after(agent, 10)
    robot.tables.booleans("/Atoll/front/enabledRequest").set(False)
    wait_until(lambda: after(agent, 20)["front"] <= 1, what="the camera to be paused", timeout_seconds=60)
