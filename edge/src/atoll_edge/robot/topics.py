"""The table `ML` as robot code of 2019 to 2021 reads it.

2019 (`boxes`, `nb_objects`/`nb_boxes`, `object_classes`/`boxes_names`) and 2020 (`detections` with `name`) were written
for frames of 320×240, and robot code has those numbers in its formulas: their pixels are always of that size. 2021
(`detections` with `label`) counts pixels of the camera's own frame, whose size is in `ML/resolution`.
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables

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


# As published in the schema topic `/.schema/struct:Detection`; robot code in Java and C++ declares the same.
SCHEMA = (
    "int32 class_id; float score; float xmin; float ymin; float xmax; float ymax; float yaw; float pitch; float area"
)


@functools.cache
def detection_struct() -> Any:
    """The class that ntcore packs."""
    import dataclasses

    from wpiutil import wpistruct

    fields = [
        (part.split()[1], {"int32": wpistruct.int32, "float": float}[part.split()[0]]) for part in SCHEMA.split("; ")
    ]
    return wpistruct.make_wpistruct(dataclasses.make_dataclass("Detection", fields), name="Detection")


def to_structs(observations: tuple[Observation, ...]) -> list[Any]:
    kind = detection_struct()
    return [
        kind(seen.class_id, seen.score, seen.xmin, seen.ymin, seen.xmax, seen.ymax, seen.yaw, seen.pitch, seen.area)
        for seen in observations
    ]


CORAL_WORDS = {"edgetpu": "Coral Edge TPU"}
NO_CORAL = "Unoptimized"


@dataclass(frozen=True)
class Sighting:
    """What one frame showed. Times are microseconds of NetworkTables' clock."""

    frame: int
    captured_us: int
    width: int
    height: int
    observations: tuple[Observation, ...]
    capture_latency_millis: float
    latency_millis: float


@dataclass(frozen=True)
class Serving:
    """Which model runs, as the robot is told."""

    model: str
    digest: str
    sequence: int
    backend: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Requests:
    """What the robot asks for: `enabled` false pauses detection, the others are 0 where nothing is asked."""

    enabled: bool
    min_score: float
    fps_limit: float


class RobotTables:
    """Publishes for one camera. Called by one thread at a time."""

    def __init__(self, tables: NetworkTables, camera: str, *, compatibility: Compatibility) -> None:
        self._tables = tables
        self._compatibility = compatibility
        self._heartbeat = 0
        self._serving: Serving | None = None
        self._make_seed_topics(tables)
        self._make_topics(tables, f"/Atoll/{camera}")

    def _make_seed_topics(self, tables: NetworkTables) -> None:
        self._json = tables.strings("/ML/detections")
        self._counts = [tables.doubles(f"/ML/{name}") for name in ("nb_objects", "nb_boxes")]
        self._names = [tables.string_arrays(f"/ML/{name}") for name in ("object_classes", "boxes_names")]
        self._boxes = tables.double_arrays("/ML/boxes")
        self._coral = tables.strings("/ML/coral")
        self._seed_fps = tables.doubles("/ML/fps")
        self._resolution = tables.strings("/ML/resolution")

    def _make_topics(self, tables: NetworkTables, table: str) -> None:
        self._detections = tables.struct_arrays(f"{table}/detections", detection_struct())
        self._labels = tables.string_arrays(f"{table}/labels", retained=True)
        self._frame = tables.integers(f"{table}/frameSeq")
        self._beat = tables.integers(f"{table}/heartbeat")
        self._fps = tables.doubles(f"{table}/fps")
        self._latency = tables.doubles(f"{table}/latencyMillis")
        self._capture_latency = tables.doubles(f"{table}/captureLatencyMillis")
        self._words = [tables.strings(f"{table}/{name}") for name in ("backend", "modelDigest", "modelName")]
        self._state = tables.strings(f"{table}/state")
        self._sequence = tables.integers(f"{table}/modelSeq")
        self._enabled = tables.boolean_reader(f"{table}/enabledRequest", True)
        self._min_score = tables.double_reader(f"{table}/minScoreRequest", 0.0)
        self._fps_limit = tables.double_reader(f"{table}/fpsLimitRequest", 0.0)

    def publish(self, sighting: Sighting) -> None:
        """One frame's detections, an empty list included, stamped with the time of capture."""
        seen, when = sighting.observations, sighting.captured_us
        self._detections.set(to_structs(seen), when)
        size = {"width": sighting.width, "height": sighting.height}
        self._json.set(detections_json(seen, self._compatibility, **size), when)
        for count in self._counts:
            count.set(float(len(seen)), when)
        for names in self._names:
            names.set([item.label for item in seen], when)
        self._boxes.set(flat_boxes(seen), when)
        self._frame.set(sighting.frame, when)
        self._latency.set(sighting.latency_millis, when)
        self._capture_latency.set(sighting.capture_latency_millis, when)
        self._tables.flush()

    def beat(self, fps: float, state: str) -> None:
        """Say that the program lives, whatever the camera and the detector do."""
        self._heartbeat += 1
        self._beat.set(self._heartbeat)
        self._state.set(state)
        self._fps.set(fps)
        self._seed_fps.set(fps)

    def resolution(self, width: int, height: int) -> None:
        self._resolution.set(f"{width}, {height}")

    def serving(self, serving: Serving) -> None:
        """Which model runs on what; published where it changed."""
        if serving == self._serving:
            return
        self._serving = serving
        self._coral.set(CORAL_WORDS.get(serving.backend, NO_CORAL))
        for publisher, value in zip(self._words, (serving.backend, serving.digest, serving.model), strict=True):
            publisher.set(value)
        self._sequence.set(serving.sequence)
        self._labels.set(list(serving.labels))

    def requests(self) -> Requests:
        """The robot's wishes of now."""
        return Requests(self._enabled(), _asked(self._min_score()), _asked(self._fps_limit()))


def _asked(value: float) -> float:
    """A division by zero in robot code asks for nothing; taken as it is, it would hide every detection."""
    return value if math.isfinite(value) and value > 0 else 0.0
