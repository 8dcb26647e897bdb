"""The topics that robot code reads: table `ML` in all its generations, and `/Atoll/<camera>`."""

import math
from dataclasses import dataclass

from atoll_edge.robot.legacy import Compatibility, detections_json, flat_boxes
from atoll_edge.robot.nt import NetworkTables
from atoll_edge.robot.observation import Observation
from atoll_edge.robot.structs import detection_struct, to_structs

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
