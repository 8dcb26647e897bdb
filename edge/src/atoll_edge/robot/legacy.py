"""The table `ML` as robot code of 2019 to 2021 reads it.

2019 (`boxes`, `nb_objects`/`nb_boxes`, `object_classes`/`boxes_names`) and 2020 (`detections` with `name`) were written
for frames of 320×240, and robot code has those numbers in its formulas: their pixels are always of that size. 2021
(`detections` with `label`) counts pixels of the camera's own frame, whose size is in `ML/resolution`.
"""

import json
from collections.abc import Sequence
from enum import StrEnum

from atoll_edge.robot.observation import Observation

SEED_SIZE = (320, 240)


class Compatibility(StrEnum):
    """Which shape `ML/detections` has: Axon's of 2021, or DetectCoral's of 2020. One key cannot hold both."""

    AXON = "axon"
    DETECTCORAL = "detectcoral"


def flat_boxes(observations: Sequence[Observation]) -> list[float]:
    """2019: [x1, y1, x2, y2, …] in pixels of 320×240, three decimals."""
    width, height = SEED_SIZE
    return [
        round(value, 3)
        for seen in observations
        for value in (seen.xmin * width, seen.ymin * height, seen.xmax * width, seen.ymax * height)
    ]


def detections_json(observations: Sequence[Observation], shape: Compatibility, *, width: int, height: int) -> str:
    """`ML/detections` for a frame of `width` × `height` pixels."""
    if shape is Compatibility.DETECTCORAL:
        return json.dumps([_detectcoral(seen) for seen in observations])
    return json.dumps([_axon(seen, width, height) for seen in observations])


def _detectcoral(seen: Observation) -> dict[str, object]:
    width, height = SEED_SIZE
    corners = [
        [int(seen.xmin * width), int(seen.ymin * height)],
        [int(seen.xmax * width), int(seen.ymax * height)],
    ]
    return {"name": seen.label, "box": corners, "confidence": round(seen.score * 100)}


def _axon(seen: Observation, width: int, height: int) -> dict[str, object]:
    box = {
        "ymin": int(seen.ymin * height),
        "xmin": int(seen.xmin * width),
        "ymax": int(seen.ymax * height),
        "xmax": int(seen.xmax * width),
    }
    return {"label": seen.label, "box": box, "confidence": round(seen.score, 4)}
