"""What following objects costs a frame, and how often one loses its number.

    python tests/bench/edge_tracks.py [--frames 1000] [--json]

Scenes of moving boxes that hide each other, of which a fifth is missed. The aim is less than a millisecond a frame for
20 boxes.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atoll_edge.robot.tracker import Tracker
from support.moving_boxes import moving_boxes

BOXES = (5, 20)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, float] = {}
    for boxes in BOXES:
        found |= measured(boxes, options.frames)
    rows = "\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in found.items())])
    print(json.dumps(found) if options.json else rows)


def measured(boxes: int, frames: int) -> dict[str, float]:
    tracker = Tracker(1.2)
    millis: list[float] = []
    last: dict[int, int] = {}
    switches = 0
    for now, seen in moving_boxes(1, boxes, frames=frames):
        observations = [item for _, item in seen]
        started = time.perf_counter()
        tracks = tracker.update(observations, now)
        millis.append((time.perf_counter() - started) * 1000)
        numbers = {id(track.seen): track.id for track in tracks}
        for index, item in seen:
            switches += last.get(index, numbers[id(item)]) != numbers[id(item)]
            last[index] = numbers[id(item)]
    return {
        f"millisOf{boxes}Boxes": round(statistics.median(millis), 3),
        f"p95MillisOf{boxes}Boxes": round(sorted(millis)[int(len(millis) * 0.95)], 3),
        f"switchesOf{boxes}Boxes": switches,
    }


if __name__ == "__main__":
    main()
