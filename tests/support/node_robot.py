"""The robot of the node cluster: an NT4 server in its network namespace that edge pods connect to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_edge.robot.networktables import NT4_PORT
from cluster.node_host import BRIDGE_ADDRESS, inside

START_SECONDS = 60
ADDRESS = f"{BRIDGE_ADDRESS}:{NT4_PORT}"


@dataclass(frozen=True)
class Robot:
    """A robot that has been waiting since it was made."""

    process: subprocess.Popen[str]
    seconds: float

    def shown(self) -> dict[str, Any]:
        """By camera what it was shown; a camera that showed nothing is missing."""
        output, _ = self.process.communicate(timeout=self.seconds + START_SECONDS)
        shown: dict[str, Any] = json.loads(output)
        return shown


@contextmanager
def robot(
    cameras: Sequence[str], *, seconds: float, sequence: int = 0, silence: float = 0.0, stay: float = 0.0
) -> Iterator[Robot]:
    """Waits for what `support.robot_watch` calls wanted, from each of the cameras, for so many seconds, and then looks
    on for the seconds of `stay`."""
    command = [sys.executable, "-P", "-m", "support.robot_watch", "--address", BRIDGE_ADDRESS, "--port", str(NT4_PORT)]
    command += [part for camera in cameras for part in ("--camera", camera)]
    command += ["--seconds", str(seconds), "--sequence", str(sequence), "--silence", str(silence), "--stay", str(stay)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(inside(command), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Robot(process, seconds + stay)
    finally:
        process.kill()
        process.communicate(timeout=10)
