"""`python -m support.robot_watch`: the robot's NT4 server, waiting for edge devices to show it something.

A program of its own because it has to run inside the node's network namespace. It prints one JSON object, by camera,
once a frame with detections has come from each: the model's sequence, the detections with their labels, and when the
frame came. With --stay it looks on for so long, and adds the longest time without such a frame. Exit code 1 if one
does not come.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from atoll_edge.robot.networktables import NetworkTables
from atoll_edge.robot.topics import detection_struct

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Wanted:
    """Which frame counts: of this model (0: any), after the device showed nothing at all for so many seconds."""

    sequence: int = 0
    silence: float = 0.0


@dataclass
class CameraWatch:
    """What one device shows. Made before it connects, so that its first frame is not missed."""

    tables: NetworkTables
    camera: str
    wanted: Wanted
    last: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)
    longest_gap: float = 0.0

    def __post_init__(self) -> None:
        table = f"/Atoll/{self.camera}"
        self._frames = self.tables.struct_array_queue(f"{table}/detections", detection_struct())
        self._labels = self.tables.string_array_reader(f"{table}/labels")
        self._sequence = self.tables.integer_reader(f"{table}/modelSeq", 0)
        self._silent = self.wanted.silence == 0

    def look_on(self) -> None:
        """Counts the time since the last frame with detections."""
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self.shown)
        if any(values for _, values in self._frames()):
            self.shown = now

    def look(self) -> dict[str, Any] | None:
        """The frame that is wanted, once it has come."""
        now = time.monotonic()
        self._silent = self._silent or now - self.last >= self.wanted.silence
        for _, values in self._frames():
            self.last = now
            names, sequence = self._labels(), self._sequence()
            if self._silent and values and names and self.wanted.sequence in (0, sequence):
                found = [
                    {
                        "label": names[item.class_id],
                        "score": item.score,
                        "box": [item.ymin, item.xmin, item.ymax, item.xmax],
                    }
                    for item in values
                ]
                self.shown = now
                return {"sequence": sequence, "labels": names, "detections": found, "time": time.time()}
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m support.robot_watch", description=__doc__)
    parser.add_argument("--address", required=True, help="to listen on")
    parser.add_argument("--port", type=int, default=5810)
    parser.add_argument("--camera", required=True, action="append")
    parser.add_argument("--seconds", type=float, required=True, help="how long to wait")
    parser.add_argument("--sequence", type=int, default=0, help="of the model that is waited for; 0: any")
    parser.add_argument("--silence", type=float, default=0.0, help="seconds without a frame before the one that counts")
    parser.add_argument("--stay", type=float, default=0.0, help="seconds to look on after that")
    options = parser.parse_args()
    tables = NetworkTables("robot")
    tables.start_server(options.address, options.port)
    wanted = Wanted(options.sequence, options.silence)
    try:
        cameras = [CameraWatch(tables, camera, wanted) for camera in options.camera]
        seen = watch(cameras, options.seconds)
        if options.stay:
            look_on([camera for camera in cameras if camera.camera in seen], options.stay)
            for camera in cameras:
                seen.get(camera.camera, {})["longestGap"] = camera.longest_gap
    finally:
        tables.close()
    print(json.dumps(seen))
    return 0 if set(seen) == set(options.camera) else 1


def watch(cameras: list[CameraWatch], seconds: float) -> dict[str, Any]:
    """By camera what the first wanted frame says; those that showed none in `seconds` are missing."""
    seen: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and len(seen) < len(cameras):
        for camera in cameras:
            if camera.camera not in seen and (found := camera.look()) is not None:
                seen[camera.camera] = found
        time.sleep(POLL_SECONDS)
    return seen


def look_on(cameras: list[CameraWatch], seconds: float) -> None:
    """So long, whatever comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for camera in cameras:
            camera.look_on()
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
