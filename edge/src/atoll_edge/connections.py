"""The self-test's steps for what the device is connected to: camera, ports, robot and bucket.

A running agent holds the camera and the ports; its own status then says whether they work.
"""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.document import Document
from atoll_contract.errors import AtollError
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.store.retry import Backoff
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.camera.files import SourceError
from atoll_edge.camera.open import DEFAULT_PATH, open_source
from atoll_edge.cameras import camera_setups, listed_cameras
from atoll_edge.config import EdgeConfig, ModelConfig, Verify
from atoll_edge.frc import NtMode
from atoll_edge.robot.networktables import NetworkTables, Server, now_us
from atoll_edge.selftest import Outcome, Step

STATUS_SECONDS = 3.0
FRAME_SECONDS = 10.0
ROBOT_SECONDS = 5.0
# A person waits; the agent itself would try for minutes.
BUCKET_SECONDS = 10.0
POINTER_LIMIT = 2**16


class AgentCamera(Document, frozen=True):
    """What the status of the running agent says of a camera; `frames` since its start."""

    connected: bool
    frames: int
    seconds_since_frame: float | None


class AgentStatus(Document, frozen=True):
    """What the status of the running agent says of this device's connections."""

    cameras: tuple[AgentCamera, ...]
    robots: tuple[str, ...]
    stream_error: str | None


def running_agent(port: int) -> AgentStatus | None:
    """Asks the agent on this machine; None if none answers on its port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=STATUS_SECONDS) as response:
            status: Mapping[str, Any] = json.load(response)
        cameras = [
            AgentCamera(bool(camera["connected"]), int(camera["frames"]), camera.get("secondsSinceFrame"))
            for camera in status["cameras"]
        ]
        return AgentStatus(
            tuple(cameras),
            tuple(status["networkTables"]["peers"]),
            status["streams"].get("error"),
        )
    except (OSError, ValueError, LookupError, TypeError, urllib.error.URLError):
        return None


def connection_steps(config: EdgeConfig) -> list[Step]:
    agent = running_agent(config.http.port)
    frames = [frame_step(config, agent, index) for index, _ in enumerate(listed_cameras(config))]
    return [*frames, ports_step(config, agent), robot_step(config, agent), bucket_step(config.model)]


def frame_step(config: EdgeConfig, agent: AgentStatus | None, index: int = 0) -> Step:
    """Takes a frame of one of the cameras that the settings name."""
    setups = camera_setups(config)
    camera, name = setups[index].config, "frame" if len(setups) == 1 else f"frame-{setups[index].name}"
    if agent is not None and index < len(agent.cameras):
        return _running_camera(agent.cameras[index], name)
    if camera.path is None and not Path(DEFAULT_PATH).exists():
        return Step(name, Outcome.SKIPPED, f"there is no {DEFAULT_PATH}, and the settings name no camera")
    try:
        source = open_source(camera, now_us=now_us)
    except SourceError as error:
        return Step(name, Outcome.FAILED, str(error))
    try:
        started = time.monotonic()
        frame = None
        while frame is None and time.monotonic() - started < FRAME_SECONDS:
            frame = source.grab(0.5)
        figures = {"camera": source.description, "seconds": round(time.monotonic() - started, 2)}
        if frame is None:
            text = f"no frame of {source.description} within {FRAME_SECONDS:.0f} s; see the camera and camera.path"
            return Step(name, Outcome.FAILED, text, figures)
        return Step(name, Outcome.PASSED, figures={**figures, "width": frame.width, "height": frame.height})
    finally:
        source.close()


def _running_camera(camera: AgentCamera, name: str) -> Step:
    figures: dict[str, Any] = {"frames": camera.frames, "secondsSinceFrame": camera.seconds_since_frame}
    if camera.connected and camera.seconds_since_frame is not None:
        return Step(name, Outcome.PASSED, "the running agent has frames", figures)
    return Step(name, Outcome.FAILED, "the running agent's camera is not connected; see its page", figures)


def ports_step(config: EdgeConfig, agent: AgentStatus | None) -> Step:
    """Looks whether the agent's ports are free, or served by the agent."""
    if agent is not None:
        if agent.stream_error is not None:
            return Step("ports", Outcome.FAILED, agent.stream_error)
        return Step("ports", Outcome.PASSED, f"the running agent serves on {config.http.port}")
    wanted = {"http.port": config.http.port}
    if config.streams.enabled:
        setups = camera_setups(config)
        where = "streams" if len(setups) == 1 else ""
        for setup in setups:
            wanted[f"{where or setup.name}.rawPort"] = setup.raw_port
            wanted[f"{where or setup.name}.annotatedPort"] = setup.annotated_port
    if config.nt_mode is NtMode.SERVER:
        wanted["ntPort"] = config.nt_port
    taken = [f"{name} {port}: {error}" for name, port in wanted.items() if (error := _problem_of(port))]
    if taken:
        return Step("ports", Outcome.FAILED, f"another program has {'; '.join(taken)}", wanted)
    return Step("ports", Outcome.PASSED, figures=wanted)


def _problem_of(port: int) -> str | None:
    with socket.socket() as probe:
        # As the servers do: a connection that ended a moment ago does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.strerror
    return None


def robot_step(config: EdgeConfig, agent: AgentStatus | None) -> Step:
    """Connects to the robot's NetworkTables server."""
    if config.nt_mode is NtMode.SERVER:
        return Step("networktables", Outcome.SKIPPED, "this device is the server: nothing to connect to")
    if agent is not None:
        return _robot_found(agent.robots, "the running agent's robot")
    if config.team is None and config.nt_server is None:
        return Step("networktables", Outcome.SKIPPED, "no team: set `team` in the settings, or in frc.json")
    host, _, port = (config.nt_server or "").partition(":")
    tables = NetworkTables(f"atoll-selftest-{config.device_name}")
    try:
        tables.start_client(Server(config.team, host or None, int(port or config.nt_port)))
        ends = time.monotonic() + ROBOT_SECONDS
        while not tables.peers and time.monotonic() < ends:
            time.sleep(0.05)
        return _robot_found(tables.peers, config.nt_server or f"the robot of team {config.team}")
    finally:
        tables.close()


def _robot_found(peers: Iterable[str], what: str) -> Step:
    found = list(peers)
    if not found:
        text = f"{what} does not answer; is it on, in this network, and is the team number right?"
        return Step("networktables", Outcome.FAILED, text)
    return Step("networktables", Outcome.PASSED, figures={"servers": found})


def _open(spec: StoreSpec) -> Store:
    if spec.type is StoreType.DIRECTORY:
        return open_store(spec)
    from atoll_contract.store.s3 import S3Store  # slow to load

    return S3Store(spec, backoff=Backoff(total=BUCKET_SECONDS))


def bucket_step(model: ModelConfig | None) -> Step:
    """Reads the channel that the settings name, and the public keys; writes nothing."""
    if model is None:
        return Step("bucket", Outcome.SKIPPED, "the settings have no `model`: the device fetches no releases")
    figures: dict[str, Any] = {"channel": keys.channel(model.namespace, model.name, model.channel)}
    if model.verify is Verify.REQUIRED and not model.public_key_files:
        return Step("bucket", Outcome.FAILED, "verify is `required`, and model.publicKeyFiles names no key", figures)
    try:
        for path in model.public_key_files:
            Path(path).read_bytes()
        store = _open(model.store)
        figures["store"] = store.url
        figures["bytes"] = len(store.get(str(figures["channel"]), limit=POINTER_LIMIT))
    except ObjectNotFound:
        return Step("bucket", Outcome.PASSED, "the bucket answers; nothing is published in this channel yet", figures)
    except (AtollError, OSError) as error:
        return Step("bucket", Outcome.FAILED, str(error), figures)
    return Step("bucket", Outcome.PASSED, figures=figures)
