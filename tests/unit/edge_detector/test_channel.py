"""What travels between the agent and a detector's process: whole messages, and calls that only wake the other side."""

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atoll_edge.detector.backends import litert
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.outputs import ModelOutput, read_outputs
from atoll_edge.detector.protocol import Channel, Detect, Detected, Load, Loaded, Message, Refused
from support.edge_model import colour_detector

pytestmark = pytest.mark.timeout(120)

MESSAGES: list[Message] = [
    Load(1, "/models/é.tflite", 2, None, "letterbox", 192),
    Refused(1, "no such file", missing=False),
    Loaded(2, 192, 192),
    Detect(3, 320, 240),
    Detected(3, 2, [], 0, 0.5),
    Detected(4, 2, [(float(number), 0.9, 0.1, 0.2, 0.3, 0.4) for number in range(5000)], 7, 0.25),
]
WAKES_AND_HANGS = (
    "import socket, sys, time;"
    "own = socket.socket(fileno=int(sys.argv[sys.argv.index('--socket') + 1]));"
    "own.sendall(bytes(4));"
    "time.sleep(3600)"
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(end.detach()) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_each_message_arrives_as_it_was_sent(ends: tuple[Channel, Channel]) -> None:
    """Several in one read, and one that takes many reads."""
    one, other = ends

    def send() -> None:
        for message in MESSAGES:
            one.send(message)
            one.wake()

    sender = threading.Thread(target=send)
    sender.start()
    for message in MESSAGES:
        assert other.receive() == message
        assert other.receive() is None
    sender.join()
    assert not other.poll(0)


def test_a_call_that_wakes_is_no_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.wake()
    assert other.poll(10)
    assert other.receive() is None
    assert not other.poll(0)


def test_both_directions_tell_that_the_other_side_is_gone(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.close()
    assert other.poll(10)
    with pytest.raises(EOFError):
        other.receive()
    with pytest.raises(OSError, match="Broken pipe"):
        other.wake()
    one.close()


def test_a_detector_that_wakes_the_agent_and_then_hangs_is_killed_in_time() -> None:
    client = DetectorClient(Backend.CPU, command=(sys.executable, "-c", WAKES_AND_HANGS))
    with pytest.raises(DetectorLost, match=r"no answer within 5 s; killed"):
        client.detect(np.zeros((8, 8, 3), np.uint8), timeout_seconds=5)
    assert not client.alive


def test_a_model_tells_that_its_network_has_run_before_it_reads_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(colour_detector())
    model = litert.loader().load(path, threads=1)
    calls: list[str] = []

    def read(interpreter: Any) -> ModelOutput:
        calls.append("read")
        return read_outputs(interpreter)

    monkeypatch.setattr(litert, "read_outputs", read)
    model.detect(Image.new("RGB", (8, 8)))
    model.computed = lambda: calls.append("computed")
    model.detect(Image.new("RGB", (8, 8)))
    assert calls == ["read", "computed", "read"]
