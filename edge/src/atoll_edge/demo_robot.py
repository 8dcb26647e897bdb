"""The robot's side of the demo: an NT4 client that reads what robot code reads."""

import time
from dataclasses import dataclass
from typing import Any

from atoll_edge.robot.nt import NetworkTables, Server
from atoll_edge.robot.structs import detection_struct


@dataclass(frozen=True)
class SeenDetection:
    label: str
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True)
class Seen:
    """One frame's detections with the time of capture, in microseconds of the server's clock."""

    time_us: int
    detections: tuple[SeenDetection, ...]


class RobotClient:
    """Subscribes to `/Atoll/<camera>` on a server of this machine."""

    def __init__(self, port: int, camera: str) -> None:
        self._tables = NetworkTables("demo-client")
        self._frames = self._tables.struct_array_queue(f"/Atoll/{camera}/detections", detection_struct())
        self._labels = self._tables.string_array_reader(f"/Atoll/{camera}/labels")
        self._tables.start_client(Server(host="127.0.0.1", port=port))

    def next_with_detections(self, timeout_seconds: float) -> Seen | None:
        """The next frame in which something was seen, or None."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            for time_us, values in self._frames():
                if values and self._labels():
                    return Seen(time_us, tuple(self._detection(value) for value in values))
            time.sleep(0.02)
        return None

    def close(self) -> None:
        self._tables.close()

    def _detection(self, value: Any) -> SeenDetection:
        labels = self._labels()
        label = labels[value.class_id] if value.class_id < len(labels) else str(value.class_id)
        return SeenDetection(label, value.score, value.xmin, value.ymin, value.xmax, value.ymax)
