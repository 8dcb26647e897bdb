"""The table `ML`, as robot code of 2019 to 2021 reads it.

Code of 2019 (`boxes`, `nb_objects`/`nb_boxes`, `object_classes`/`boxes_names`) and 2020 (`detections` with `name`) was
written for frames of 320×240, and has those numbers in its formulas: its pixels are always of that size. Code of 2021
(`detections` with `label`) counts pixels of the camera's own frame, whose size is in `ML/resolution`.
"""

import json
from collections.abc import Sequence
from enum import StrEnum

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables

SEED_SIZE = (320, 240)
# `ML/coral` names the accelerator of a backend, or says that there is none.
CORAL_NAMES = {"edgetpu": "Coral Edge TPU", "qnn": "Qualcomm NPU", "rknn": "Rockchip NPU"}
NO_CORAL = "Unoptimized"


class Compatibility(StrEnum):
    """The format of `ML/detections`: Axon's of 2021 or DetectCoral's of 2020, as one topic cannot hold both; or no
    table `ML` at all, which one camera of a robot can have."""

    AXON = "axon"
    DETECTCORAL = "detectcoral"
    NONE = "none"


def flat_boxes(observations: Sequence[Observation]) -> list[float]:
    """Returns `ML/boxes` of 2019: [x1, y1, x2, y2, …] in pixels of 320×240, with three decimals."""
    width, height = SEED_SIZE
    return [
        round(value, 3)
        for seen in observations
        for value in (seen.xmin * width, seen.ymin * height, seen.xmax * width, seen.ymax * height)
    ]


def detections_json(observations: Sequence[Observation], shape: Compatibility, *, width: int, height: int) -> str:
    """Returns `ML/detections` for a frame of `width` × `height` pixels."""
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


class SeedTables:
    """Publishes the table `ML` for one camera. Called by one thread at a time."""

    def __init__(self, tables: NetworkTables, compatibility: Compatibility) -> None:
        self._compatibility = compatibility
        self._json = tables.strings("/ML/detections")
        self._counts = [tables.doubles(f"/ML/{name}") for name in ("nb_objects", "nb_boxes")]
        self._names = [tables.string_arrays(f"/ML/{name}") for name in ("object_classes", "boxes_names")]
        self._boxes = tables.double_arrays("/ML/boxes")
        self._coral = tables.strings("/ML/coral")
        self._fps = tables.doubles("/ML/fps")
        self._resolution = tables.strings("/ML/resolution")

    def publish(self, seen: Sequence[Observation], *, width: int, height: int, when: int) -> None:
        """Publishes the observations in a frame of `width` × `height` pixels that was captured at `when`."""
        self._json.set(detections_json(seen, self._compatibility, width=width, height=height), when)
        for count in self._counts:
            count.set(float(len(seen)), when)
        for names in self._names:
            names.set([item.label for item in seen], when)
        self._boxes.set(flat_boxes(seen), when)

    def fps(self, value: float) -> None:
        self._fps.set(value)

    def resolution(self, width: int, height: int) -> None:
        self._resolution.set(f"{width}, {height}")

    def backend(self, name: str) -> None:
        """Publishes which accelerator runs the model."""
        self._coral.set(CORAL_NAMES.get(name, NO_CORAL))
