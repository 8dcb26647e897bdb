"""The topics of a camera: those that the agent publishes for robot code, and those that it reads from the robot.

`/Atoll/<camera>` has the structured topics. The table `ML` is in `seed_topics`.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.networktables import NetworkTables, Publisher
from atoll_edge.robot.seed_topics import Compatibility, SeedTables
from atoll_edge.robot.tracker import TrackedObject

# The struct of `/Atoll/<camera>/detections`, as its topic `/.schema/struct:Detection` has it; robot code in Java and
# C++ declares the same.
SCHEMA = (
    "int32 class_id; float score; float xmin; float ymin; float xmax; float ymax; float yaw; float pitch; float area"
)
# The struct of `/Atoll/<camera>/tracks`; its double[] twin has the same numbers, one track after the other.
TRACK_SCHEMA = (
    "int32 id; int32 class_id; int32 frames; int32 missed; float age; float score; float xmin; float ymin; float xmax; "
    "float ymax; float velocity_x; float velocity_y; float yaw; float pitch; float distance"
)
# The robot's control word: the topic of 2026 and before, and its name from 2027.
CONTROL_WORD_TOPICS = ("/FMSInfo/FMSControlData", "/FMSInfo/ControlWord")
ENABLED = 1 << 0
FMS_ATTACHED = 1 << 4


def detection_struct() -> Any:
    """Returns the class that ntcore packs, made of SCHEMA."""
    return _struct("Detection", SCHEMA)


def track_struct() -> Any:
    """Returns the class that ntcore packs, made of TRACK_SCHEMA."""
    return _struct("Track", TRACK_SCHEMA)


@functools.cache
def _struct(name: str, schema: str) -> Any:
    from wpiutil import wpistruct

    fields = [
        (part.split()[1], {"int32": wpistruct.int32, "float": float}[part.split()[0]]) for part in schema.split("; ")
    ]
    return wpistruct.make_wpistruct(dataclasses.make_dataclass(name, fields), name=name)


def to_structs(observations: tuple[Observation, ...]) -> list[Any]:
    kind = detection_struct()
    return [
        kind(seen.class_id, seen.score, seen.xmin, seen.ymin, seen.xmax, seen.ymax, seen.yaw, seen.pitch, seen.area)
        for seen in observations
    ]


def track_values(track: TrackedObject) -> tuple[float, ...]:
    """Returns the numbers of a track, in the order of TRACK_SCHEMA."""
    seen = track.seen
    return (
        track.id,
        seen.class_id,
        track.frames,
        track.missed,
        track.age,
        seen.score,
        seen.xmin,
        seen.ymin,
        seen.xmax,
        seen.ymax,
        track.velocity_x,
        track.velocity_y,
        seen.yaw,
        seen.pitch,
        seen.distance,
    )


@dataclass(frozen=True)
class FrameDetections:
    """The observations in one frame, and the objects that are followed. `captured_us` is in microseconds of
    NetworkTables' clock."""

    frame: int
    captured_us: int
    width: int
    height: int
    observations: tuple[Observation, ...]
    capture_latency_millis: float
    latency_millis: float
    tracks: tuple[TrackedObject, ...] = ()


@dataclass(frozen=True)
class ExtraTopics:
    """Topics that the settings ask for. That of distances also comes with a model that knows widths."""

    distances: bool = False
    tracks: bool = False


@dataclass(frozen=True)
class ActiveModel:
    """The model that runs, and on what."""

    name: str
    digest: str
    sequence: int
    backend: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class RobotRequests:
    """The requests of robot code: `enabled` false pauses detection; the others are 0 where they are not set."""

    enabled: bool
    min_score: float
    fps_limit: float


class RobotTables:
    """Publishes for one camera, with the table `ML` unless `compatibility` is none. Called by one thread at a time."""

    def __init__(
        self, tables: NetworkTables, camera: str, *, compatibility: Compatibility, extra: ExtraTopics = ExtraTopics()
    ) -> None:
        self._tables = tables
        self._beats = 0
        self._active_model: ActiveModel | None = None
        self._seed = SeedTables(tables, compatibility) if compatibility is not Compatibility.NONE else None
        self._make_topics(tables, f"/Atoll/{camera}")
        table = f"/Atoll/{camera}"
        self._distances_topic = f"{table}/distances"
        self._distances = tables.double_arrays(self._distances_topic) if extra.distances else None
        self._tracks = (
            (tables.struct_arrays(f"{table}/tracks", track_struct()), tables.double_arrays(f"{table}/trackValues"))
            if extra.tracks
            else None
        )

    def _make_topics(self, tables: NetworkTables, table: str) -> None:
        self._detections = tables.struct_arrays(f"{table}/detections", detection_struct())
        self._labels = tables.string_arrays(f"{table}/labels", retained=True)
        self._frame = tables.integers(f"{table}/frameSeq")
        self._heartbeat = tables.integers(f"{table}/heartbeat")
        self._fps = tables.doubles(f"{table}/fps")
        self._latency = tables.doubles(f"{table}/latencyMillis")
        self._capture_latency = tables.doubles(f"{table}/captureLatencyMillis")
        self._model_texts = [tables.strings(f"{table}/{name}") for name in ("backend", "modelDigest", "modelName")]
        self._state = tables.strings(f"{table}/state")
        self._sequence = tables.integers(f"{table}/modelSeq")
        self._enabled = tables.boolean_reader(f"{table}/enabledRequest", True)
        self._min_score = tables.double_reader(f"{table}/minScoreRequest", 0.0)
        self._fps_limit = tables.double_reader(f"{table}/fpsLimitRequest", 0.0)

    def publish(self, detections: FrameDetections) -> None:
        """Publishes one frame's observations, also an empty list, with the time of capture."""
        seen, when = detections.observations, detections.captured_us
        self._detections.set(to_structs(seen), when)
        if self._seed is not None:
            self._seed.publish(seen, width=detections.width, height=detections.height, when=when)
        if self._distances is None and any(item.distance for item in seen):
            self._distances = self._tables.double_arrays(self._distances_topic)
        if self._distances is not None:
            self._distances.set([item.distance for item in seen], when)
        if self._tracks is not None:
            self._publish_tracks(detections.tracks, when, *self._tracks)
        self._frame.set(detections.frame, when)
        self._latency.set(detections.latency_millis, when)
        self._capture_latency.set(detections.capture_latency_millis, when)
        self._tables.flush()

    @staticmethod
    def _publish_tracks(
        tracks: tuple[TrackedObject, ...], when: int, structs: Publisher[list[Any]], values: Publisher[list[float]]
    ) -> None:
        numbers = [track_values(track) for track in tracks]
        structs.set([track_struct()(*row) for row in numbers], when)
        values.set([float(number) for row in numbers for number in row], when)

    def heartbeat(self, fps: float, state: str) -> None:
        """Publishes that the program runs, whatever the camera and the detector do."""
        self._beats += 1
        self._heartbeat.set(self._beats)
        self._state.set(state)
        self._fps.set(fps)
        if self._seed is not None:
            self._seed.fps(fps)

    def resolution(self, width: int, height: int) -> None:
        if self._seed is not None:
            self._seed.resolution(width, height)

    def active_model(self, model: ActiveModel) -> None:
        """Publishes the active model and its backend, if they changed."""
        if model == self._active_model:
            return
        self._active_model = model
        if self._seed is not None:
            self._seed.backend(model.backend)
        for publisher, value in zip(self._model_texts, (model.backend, model.digest, model.name), strict=True):
            publisher.set(value)
        self._sequence.set(model.sequence)
        self._labels.set(list(model.labels))

    def requests(self) -> RobotRequests:
        """Reads the requests of robot code."""
        return RobotRequests(self._enabled(), _valid_request(self._min_score()), _valid_request(self._fps_limit()))


def _valid_request(value: float) -> float:
    """Returns 0 for NaN, infinity and negative numbers: a division by zero in robot code would hide every detection."""
    return value if math.isfinite(value) and value > 0 else 0.0


@dataclass(frozen=True)
class Match:
    """The state of the robot. `locked`: nothing may be changed on it now."""

    enabled: bool
    fms_attached: bool

    @property
    def locked(self) -> bool:
        return self.enabled or self.fms_attached


class MatchMonitor:
    """Reads the field's control word. Without a robot there is no match; after the robot has disconnected its last
    word counts for as long as NetworkTables keeps the value."""

    def __init__(self, tables: NetworkTables) -> None:
        self._readers = [tables.integer_reader(topic, 0) for topic in CONTROL_WORD_TOPICS]

    def now(self) -> Match:
        word = 0
        for read in self._readers:
            word |= int(read())
        return Match(enabled=bool(word & ENABLED), fms_attached=bool(word & FMS_ATTACHED))
