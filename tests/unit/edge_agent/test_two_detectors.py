"""Two detectors for two cameras: both work at the same time, and one that dies leaves its frames to the other."""

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_edge.agent import Agent
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, HttpConfig, StreamConfig, WantedBackend
from atoll_edge.demo import free_ports
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.manager import FixedModelManager
from support.edge_robot import Robot
from support.polling import wait_until
from support.scripted_detector import COMMAND

pytestmark = pytest.mark.timeout(300)

Script = Callable[..., None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    path = tmp_path / "script.json"
    monkeypatch.setenv("EDGE_SCRIPT", str(path))

    def write(**cpu: object) -> None:
        path.write_text(json.dumps({"cpu": cpu}))

    return write


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Agent]]:
    """Starts the agent, with the detectors that its settings ask for, whose processes follow the script."""
    monkeypatch.setattr("atoll_edge.agent.DetectorClient", functools.partial(DetectorClient, command=COMMAND))
    robot = Robot()
    agents = []

    def begin() -> Agent:
        http = free_ports(1)[0]
        config = EdgeConfig(
            device="pi",
            nt_server=f"127.0.0.1:{robot.port}",
            cameras=tuple(CameraConfig(name=name, path="synthetic", fps=30) for name in ("front", "rear")),
            detection=DetectionConfig(backend=WantedBackend.CPU, processes=2),
            streams=StreamConfig(enabled=False),
            http=HttpConfig(port=http),
        )
        model = LoadedModelSpec("v1", "aa", 1, ("a",), (0.5,), tmp_path / "cpu.tflite")
        agent = Agent(config, lambda detector, *_: FixedModelManager(model, detector))
        agents.append(agent)
        agent.start()
        return agent

    yield begin
    for agent in agents:
        agent.stop()
    robot.close()


def answered(agent: Agent, count: int) -> None:
    """Waits until each camera has had so many more answers."""
    wanted = [pipeline.results + count for pipeline in agent.pipelines]

    def reached() -> bool:
        return all(pipeline.results >= least for pipeline, least in zip(agent.pipelines, wanted, strict=True))

    wait_until(reached, what=f"{count} answers for each camera", timeout_seconds=120)


def test_two_detectors_work_on_a_frame_of_each_camera_at_the_same_time(
    script: Script, start: Callable[[], Agent], tmp_path: Path
) -> None:
    """No detector answers its first frame before the other one has a frame, too."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    script(meet=str(meeting), workers=2)
    agent = start()
    answered(agent, 20)
    pids = {detector.health.pid for detector in agent.detector.members}
    assert {int(path.name) for path in meeting.iterdir()} == pids
    assert agent.detector.health.losses == 0
    assert agent.detector.spare_pid is None


def test_E28_a_detector_that_dies_leaves_its_frames_to_the_other_one(
    script: Script, start: Callable[[], Agent]
) -> None:
    """The first loads for a minute when it is started again, and both cameras go on meanwhile."""
    script()
    agent = start()
    answered(agent, 5)
    first, second = agent.detector.members
    wait_until(lambda: first.health.pid and second.health.pid, what="both detectors")
    script(load_seconds=60)
    os.kill(first.health.pid or 0, signal.SIGKILL)
    wait_until(lambda: first.health.losses, what="the loss")
    answered(agent, 20)
    assert second.health.losses == 0
    assert agent.status.status().detector.losses == 1
    assert agent.status.ready().ok


def test_frames_of_one_camera_stay_in_their_order(script: Script, start: Callable[[], Agent]) -> None:
    script(seconds=0.02)
    agent = start()
    numbers: list[tuple[str, int]] = []
    for pipeline in agent.pipelines:
        finish = pipeline.finish

        def noted(frame, result, cameras, *, name=pipeline.name, finish=finish):  # type: ignore[no-untyped-def]
            numbers.append((name, frame.number))
            finish(frame, result, cameras)

        pipeline.finish = noted  # type: ignore[method-assign]
    answered(agent, 30)
    for name in ("front", "rear"):
        order = [number for camera, number in numbers if camera == name]
        assert order == sorted(order)
        assert len(order) == len(set(order))
