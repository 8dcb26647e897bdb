"""`atoll-edge selftest`: what it tries of a device's surroundings, and how it names what it did not try."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.document import to_json
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.cli import as_text, main
from atoll_edge.config import CameraConfig, EdgeConfig, HttpConfig, ModelConfig, StreamConfig, Verify
from atoll_edge.connections import bucket_step, connection_steps, frame_step, ports_step, robot_step, running_agent
from atoll_edge.demo import free_ports
from atoll_edge.selftest import Outcome, SelfTest, SelfTestResult, Step, overall_result
from support.edge_agent import RunningAgent
from support.edge_release import CHANNEL, MODEL, NAMESPACE, publish
from support.edge_robot import Robot
from support.polling import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def config() -> EdgeConfig:
    raw, annotated, http = free_ports(3)
    return EdgeConfig(
        device="pi",
        camera=CameraConfig(path="synthetic"),
        streams=StreamConfig(raw_port=raw, annotated_port=annotated),
        http=HttpConfig(port=http),
    )


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


def changed(config: EdgeConfig, **changes: Any) -> EdgeConfig:
    return type(config)(**{name: getattr(config, name) for name in config.__struct_fields__} | changes)


def test_E23_a_skipped_step_makes_the_result_incomplete_and_names_itself() -> None:
    done, left = Step("disk", Outcome.PASSED), Step("coral", Outcome.SKIPPED, "no Coral")
    assert overall_result([done]) is SelfTestResult.PASSED
    assert overall_result([done, left]) is SelfTestResult.INCOMPLETE
    assert overall_result([done, left, Step("frame", Outcome.FAILED)]) is SelfTestResult.FAILED
    text = as_text(SelfTest("1", False, (done, left), SelfTestResult.INCOMPLETE))
    assert text.splitlines()[-1] == "incomplete: not tried: coral"


def test_E23_a_frame_is_taken_of_the_camera_that_the_settings_name(config: EdgeConfig) -> None:
    step = frame_step(config, None)
    assert (step.outcome, step.figures["width"]) == (Outcome.PASSED, 320)
    missing = changed(config, camera=CameraConfig(path="/nowhere/pictures"))
    assert frame_step(missing, None).outcome is Outcome.FAILED


def test_E23_a_camera_that_gives_no_frame_fails(config: EdgeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll_edge.connections.FRAME_SECONDS", 0.6)
    step = frame_step(changed(config, camera=CameraConfig(path="/dev/video93")), None)
    assert step.outcome is Outcome.FAILED
    assert "no frame of /dev/video93" in step.message


def test_E23_a_port_of_another_program_is_named(config: EdgeConfig) -> None:
    assert ports_step(config, None).outcome is Outcome.PASSED
    with socket.socket() as other:
        other.bind(("", config.streams.annotated_port))
        other.listen()
        step = ports_step(config, None)
    assert step.outcome is Outcome.FAILED
    assert f"streams.annotatedPort {config.streams.annotated_port}" in step.message


def test_E23_the_robot_is_connected_to(config: EdgeConfig, robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert robot_step(changed(config, nt_server=f"127.0.0.1:{robot.port}"), None).outcome is Outcome.PASSED
    monkeypatch.setattr("atoll_edge.connections.ROBOT_SECONDS", 0.3)
    (closed,) = free_ports(1)
    step = robot_step(changed(config, nt_server=f"127.0.0.1:{closed}"), None)
    assert step.outcome is Outcome.FAILED
    assert f"127.0.0.1:{closed} does not answer" in step.message
    assert robot_step(config, None).outcome is Outcome.SKIPPED


def test_E23_the_bucket_is_read(tmp_path: Path) -> None:
    store = StoreSpec(StoreType.DIRECTORY, path=str(tmp_path / "bucket"))
    model = ModelConfig(NAMESPACE, MODEL, store, channel=CHANNEL, verify=Verify.DIGEST_ONLY)
    assert "nothing is published" in bucket_step(model).message
    publish(DirStore(tmp_path / "bucket"))
    assert bucket_step(model).outcome is Outcome.PASSED
    assert bucket_step(None).outcome is Outcome.SKIPPED
    unsigned = ModelConfig(NAMESPACE, MODEL, store)
    assert "publicKeyFiles" in bucket_step(unsigned).message
    absent = ModelConfig(NAMESPACE, MODEL, store, public_key_files=(str(tmp_path / "key.pem"),))
    assert "key.pem" in bucket_step(absent).message


def test_E23_a_running_agent_answers_for_camera_ports_and_robot(tmp_path: Path, robot: Robot) -> None:
    running = RunningAgent(tmp_path, robot.port)
    try:

        def serves() -> bool:
            agent = running_agent(running.config.http.port)
            return agent is not None and agent.cameras[0].frames > 0 and bool(agent.robots)

        wait_until(serves, what="frames and a robot", timeout_seconds=60)
        steps = {step.name: step for step in connection_steps(running.config)}
    finally:
        running.close()
    assert {name: step.outcome for name, step in steps.items()} == dict.fromkeys(
        ("frame", "ports", "networktables", "bucket"), Outcome.PASSED
    )
    assert "running agent" in steps["ports"].message


def test_E23_the_command_says_incomplete_and_what_fails_ends_it_with_1(
    tmp_path: Path, config: EdgeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "config.yaml"
    plain = json.loads(to_json(changed(config, state_dir=str(tmp_path / "device"))))
    settings.write_text(json.dumps(plain))
    assert main(["selftest", "--json", "--config", str(settings)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["result"], result["passed"]) == ("incomplete", False)
    with socket.socket() as other:
        other.bind(("", config.http.port))
        other.listen()
        assert main(["selftest", "--config", str(settings)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED"
