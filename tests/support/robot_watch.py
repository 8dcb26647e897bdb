"""`python -m support.robot_watch`: the robot's NT4 server, waiting for an edge device to show it something.

A program of its own because it has to run inside the node's network namespace. It prints one JSON object once a frame
with detections has come: the device's state and model, and the detections with their labels. Exit code 1 if none does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from atoll_edge.robot.nt import NetworkTables
from atoll_edge.robot.structs import detection_struct

POLL_SECONDS = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m support.robot_watch", description=__doc__)
    parser.add_argument("--address", required=True, help="to listen on")
    parser.add_argument("--port", type=int, default=5810)
    parser.add_argument("--camera", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="how long to wait")
    options = parser.parse_args()
    tables = NetworkTables("robot")
    tables.start_server(options.address, options.port)
    try:
        seen = watch(tables, f"/Atoll/{options.camera}", options.seconds)
    finally:
        tables.close()
    if seen is not None:
        print(json.dumps(seen))
    return 0 if seen is not None else 1


def watch(tables: NetworkTables, table: str, seconds: float) -> dict[str, Any] | None:
    """What the first frame with detections says, or None after `seconds`."""
    frames = tables.struct_array_queue(f"{table}/detections", detection_struct())
    labels = tables.string_array_reader(f"{table}/labels")
    sequence = tables.integer_reader(f"{table}/modelSeq", 0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _, values in frames():
            names = labels()
            if values and names:
                found = [
                    {
                        "label": names[item.class_id],
                        "score": item.score,
                        "box": [item.ymin, item.xmin, item.ymax, item.xmax],
                    }
                    for item in values
                ]
                return {"sequence": sequence(), "labels": names, "detections": found}
        time.sleep(POLL_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main())
