"""Robot code in Python (RobotPy): reads Atoll's detections.

`Detections` reads the structured topic, which is the one to use; `Tracks` reads the objects that the device follows
(`tracks: {enabled: true}` in its settings); `axon_detections` reads `ML/detections` as robot code
of 2021 did. Copy what you need.
"""

import dataclasses
import json
from typing import Any

import ntcore
from wpiutil import wpistruct


@wpistruct.make_wpistruct(name="Detection")
@dataclasses.dataclass
class Detection:
    """One object. Coordinates are relative to the frame, 0 to 1 from the top left; yaw is positive to the right and
    pitch positive upwards, in degrees from the centre."""

    class_id: wpistruct.int32
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    yaw: float
    pitch: float
    area: float


class Detections:
    """What one Atoll camera sees. Call `update` once in each period of the robot."""

    # Ten periods of the robot: a device that was silent for so long is gone.
    STALE_PERIODS = 10

    def __init__(self, camera: str, instance: ntcore.NetworkTableInstance | None = None) -> None:
        table = (instance or ntcore.NetworkTableInstance.getDefault()).getTable(f"Atoll/{camera}")
        self._detections = table.getStructArrayTopic("detections", Detection).subscribe([])
        self._labels = table.getStringArrayTopic("labels").subscribe([])
        self._heartbeat = table.getIntegerTopic("heartbeat").subscribe(-1)
        self._last_heartbeat = -1
        self._silent_periods = self.STALE_PERIODS

    def update(self) -> None:
        beat = self._heartbeat.get()
        self._silent_periods = 0 if beat != self._last_heartbeat else self._silent_periods + 1
        self._last_heartbeat = beat

    @property
    def alive(self) -> bool:
        """Whether the device still talks; without this an old detection would look like a new one."""
        return self._silent_periods < self.STALE_PERIODS

    def seen(self) -> list[Detection]:
        """What is seen now, best first; empty where nothing is seen or the device is silent."""
        return list(self._detections.get()) if self.alive else []

    def label(self, detection: "Detection | Track") -> str:
        labels = self._labels.get()
        return labels[detection.class_id] if detection.class_id < len(labels) else str(detection.class_id)

    def best(self, label: str) -> Detection | None:
        """The best detection of a class."""
        return next((item for item in self.seen() if self.label(item) == label), None)


@wpistruct.make_wpistruct(name="Track")
@dataclasses.dataclass
class Track:
    """One object that is followed: `id` stays the same, `frames` have shown it, the newest `missed` ones have not. Age
    in seconds, speeds in frame widths and heights a second, distance in metres (0: unknown)."""

    id: wpistruct.int32
    class_id: wpistruct.int32
    frames: wpistruct.int32
    missed: wpistruct.int32
    age: float
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    velocity_x: float
    velocity_y: float
    yaw: float
    pitch: float
    distance: float

    @property
    def area(self) -> float:
        return (self.xmax - self.xmin) * (self.ymax - self.ymin)


class Tracks:
    """The objects that one Atoll camera follows. Call `update` once in each period of the robot."""

    STABLE_FRAMES = 5

    def __init__(self, camera: str, instance: ntcore.NetworkTableInstance | None = None) -> None:
        table = (instance or ntcore.NetworkTableInstance.getDefault()).getTable(f"Atoll/{camera}")
        self._tracks = table.getStructArrayTopic("tracks", Track).subscribe([])
        self._detections = Detections(camera, instance)

    def update(self) -> None:
        self._detections.update()

    def nearest(self, label: str) -> Track | None:
        """The nearest object of a class that is seen now, and was in STABLE_FRAMES frames: no flicker of the model. By
        its distance where the device knows it, else the largest one."""
        stable = [
            track
            for track in (self._tracks.get() if self._detections.alive else [])
            if track.frames >= self.STABLE_FRAMES and track.missed == 0 and self._detections.label(track) == label
        ]
        return min(stable, key=lambda track: (track.distance or float("inf"), -track.area), default=None)


def axon_detections(instance: ntcore.NetworkTableInstance | None = None) -> list[dict[str, Any]]:
    """`ML/detections`: `[{"label", "box": {"ymin", "xmin", "ymax", "xmax"}, "confidence"}]` in pixels of the frame."""
    table = (instance or ntcore.NetworkTableInstance.getDefault()).getTable("ML")
    found: list[dict[str, Any]] = json.loads(table.getEntry("detections").getString("[]"))
    return found
