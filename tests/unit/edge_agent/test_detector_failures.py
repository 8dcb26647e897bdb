"""A detector that dies, hangs or is slow, and what the robot and the page get then. The workers are real
processes with scripted backends; the times that they need are measured by `tests/bench/edge_restart.py`."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_edge.agent import Agent
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, HttpConfig, StreamConfig
from atoll_edge.demo import free_ports
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import Accelerator
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.robot.topics import detection_struct
from support.edge_robot import Robot
from support.polling import wait_until
from support.scripted_detector import COMMAND

pytestmark = pytest.mark.timeout(300)

Script = Callable[..., None]
TABLE = "/Atoll/front"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    path = tmp_path / "script.json"
    monkeypatch.setenv("EDGE_SCRIPT", str(path))

    def write(**backends: dict[str, Any]) -> None:
        path.with_suffix(".part").write_text(json.dumps(backends))
        path.with_suffix(".part").replace(path)  # a child may read it now

    write()
    return write


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    server.watch(f"{TABLE}/heartbeat", f"{TABLE}/backend", "/ML/coral", f"{TABLE}/frameSeq")
    yield server
    server.close()


@pytest.fixture
def agent(tmp_path: Path, script: Script, robot: Robot) -> Iterator[Agent]:
    """An agent whose Edge TPU and CPU are scripted, with a robot."""
    raw, marked, http = free_ports(3)
    config = EdgeConfig(
        device="pi",
        nt_server=f"127.0.0.1:{robot.port}",
        camera=CameraConfig(name="front", path="synthetic", fps=20),
        detection=DetectionConfig(),
        streams=StreamConfig(raw_port=raw, annotated_port=marked),
        http=HttpConfig(port=http),
    )
    model = LoadedModelSpec("both-v1", "aa", 1, ("a",), (0.5,), tmp_path / "cpu.tflite", tmp_path / "edgetpu.tflite")
    spawn = functools.partial(DetectorClient, command=COMMAND)
    detector = DetectorManager(
        BackendChoice("auto", lambda: (Accelerator(Backend.EDGETPU),)),
        threads=1,
        spawn=spawn,
        probe_allowed=lambda: False,
    )
    agent = Agent(config, lambda detector, *_: FixedModelManager(model, detector), detector=detector)
    agent.start()
    yield agent
    agent.stop()


Frames = Callable[[], list[tuple[int, list[Any]]]]


@pytest.fixture
def frames(robot: Robot) -> Frames:
    """Every list that the robot got since the last call."""
    return robot.tables.struct_array_queue(f"{TABLE}/detections", detection_struct())


def wait_for_detections(frames: Frames) -> None:
    wait_until(lambda: [values for _, values in frames() if values], what="detections", timeout_seconds=120)


def wait_for_empty_lists(frames: Frames) -> None:
    wait_until(lambda: [values for _, values in frames() if not values], what="an empty list", timeout_seconds=60)


def test_E11_three_losses_move_to_the_cpu_and_robot_and_page_show_it(
    agent: Agent, frames: Frames, robot: Robot, script: Script
) -> None:
    wait_for_detections(frames)
    assert robot.sample(f"{TABLE}/backend").value == "edgetpu"
    assert robot.sample("/ML/coral").value == "Coral Edge TPU"
    script(edgetpu={"abort_after": 5})
    assert robot.sample(f"{TABLE}/backend", lambda value: value == "cpu")
    assert robot.sample("/ML/coral", lambda value: value == "Unoptimized")
    wait_for_detections(frames)
    status = agent.status.status().detector
    assert (status.backend, status.fallen_back, status.losses) == (Backend.CPU, True, 3)
    assert status.last_loss == "the process ended (SIGABRT)"
    assert agent.status.ready().ok


def test_heartbeat_and_empty_lists_go_on_while_the_detector_hangs(
    agent: Agent, frames: Frames, robot: Robot, script: Script
) -> None:
    wait_for_detections(frames)
    script(edgetpu={"hang_after": 0})
    wait_for_empty_lists(frames)
    beat = robot.sample(f"{TABLE}/heartbeat").value
    wait_for_empty_lists(frames)
    assert robot.sample(f"{TABLE}/heartbeat", lambda value: value > beat)
    assert agent.pipeline.alive
    script()
    wait_for_detections(frames)
    assert "no answer within 2 s" in agent.detector.health.last_loss


def test_a_slow_detector_is_not_published_as_nothing_seen(agent: Agent, frames: Frames, script: Script) -> None:
    """A Pi 3 takes 0.4 s for a frame: between two results nothing is published, not even an empty list."""
    wait_for_detections(frames)
    script(edgetpu={"seconds": 0.4})
    wait_for_answers(agent, 3)
    frames()
    wait_for_answers(agent, 4)
    assert [values for _, values in frames() if not values] == []


def wait_for_answers(agent: Agent, count: int) -> None:
    wanted = agent.pipeline.results + count
    wait_until(lambda: agent.pipeline.results >= wanted, what=f"{count} answers", timeout_seconds=60)


def test_a_model_that_loads_slowly_on_the_cpu_leaves_the_one_before_answering(
    agent: Agent, frames: Frames, script: Script, tmp_path: Path
) -> None:
    wait_for_detections(frames)
    script(cpu={"load_seconds": 1.0})
    second = LoadedModelSpec("second-v2", "bb", 2, ("a",), (0.5,), tmp_path / "cpu.tflite")
    loaded = agent.detector.request(second)
    before = agent.pipeline.results
    wait_until(loaded.done, what="the second model", timeout_seconds=60)
    assert loaded.result() is Backend.CPU
    assert agent.pipeline.results > before + 5
    assert agent.detector.health.losses == 0


def test_a_model_that_kills_its_loader_leaves_the_one_before_answering(
    agent: Agent, frames: Frames, script: Script, tmp_path: Path
) -> None:
    wait_for_detections(frames)
    serving = agent.detector.health.pid
    script(cpu={"abort_after": 0})
    loaded = agent.detector.request(LoadedModelSpec("second-v2", "bb", 2, ("a",), (0.5,), tmp_path / "cpu.tflite"))
    wait_until(loaded.done, what="the end of the second model", timeout_seconds=60)
    assert "SIGABRT" in str(loaded.exception())
    frames()
    wait_for_detections(frames)
    assert agent.detector.health.pid == serving
