"""Follows objects from frame to frame: each keeps its number while it is hidden, or missed, for a while.

A track predicts where its object is now, at the speed that it had. The detections of a frame go to the tracks of their
class, the nearest pair first; what is left begins a new track. There is no assignment over all pairs at once: with the
few objects of a field the nearest pair is the right one but for rare moments, and it costs a fraction of a millisecond.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_edge.robot.detection import Observation

# How far an object may be from where it is expected, in its own sizes: more for a new one, whose speed is not known.
GATE = 1.5
FIRST_GATE = 2.0
# A box of twice the size counts as far away as this many sizes.
SIZE_WEIGHT = 0.7
# How much of a measurement counts, at the least: less follows turns late, more follows the boxes' jitter.
POSITION_GAIN = 0.6
SPEED_GAIN = 0.25
# A frame that comes later than this says nothing of where an object was before.
MAX_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class TrackedObject:
    """An object that is followed. `seen` is its observation in the newest frame that showed it, moved to where it is
    expected now if `missed` frames have not. `frames` showed it in all, `age` is in seconds since the first; speeds are
    in frame widths and heights a second."""

    id: int
    seen: Observation
    frames: int
    missed: int
    age: float
    velocity_x: float
    velocity_y: float


@dataclass
class _Track:
    id: int
    seen: Observation
    began_at: float
    at: float
    x: float
    y: float
    velocity_x: float = 0.0
    velocity_y: float = 0.0
    frames: int = 1
    missed: int = 0

    def expected(self, now: float) -> tuple[float, float]:
        passed = now - self.at
        return self.x + self.velocity_x * passed, self.y + self.velocity_y * passed

    def update(self, seen: Observation, now: float) -> None:
        x, y = _centre(seen)
        expected_x, expected_y = self.expected(now)
        passed = max(now - self.at, 1e-3)
        self.frames += 1
        # The best estimate of a straight way from so many measurements, until the gains' floor.
        n = self.frames
        position = max(POSITION_GAIN, 2 * (2 * n - 1) / (n * (n + 1)))
        speed = max(SPEED_GAIN, 6 / (n * (n + 1)))
        self.velocity_x += speed * (x - expected_x) / passed
        self.velocity_y += speed * (y - expected_y) / passed
        self.x = expected_x + position * (x - expected_x)
        self.y = expected_y + position * (y - expected_y)
        self.seen, self.at, self.missed = seen, now, 0


@dataclass
class _Box:
    """Where an object is, and how large."""

    class_id: int
    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, seen: Observation, centre: tuple[float, float]) -> "_Box":
        return cls(seen.class_id, *centre, seen.xmax - seen.xmin, seen.ymax - seen.ymin)

    def apart(self, other: "_Box") -> float:
        """How far two boxes are from each other, in their own sizes."""
        if min(self.width, self.height, other.width, other.height) <= 0:
            return math.inf
        across = (self.x - other.x) * 2 / (self.width + other.width)
        down = (self.y - other.y) * 2 / (self.height + other.height)
        size = abs(math.log2(self.width / other.width)) + abs(math.log2(self.height / other.height))
        return math.hypot(across, down) + SIZE_WEIGHT * size / 2


class Tracker:
    """The tracks of one camera. `keep_seconds` is how long an object that no frame shows keeps its number."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep_seconds = keep_seconds
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._at = -math.inf

    def update(self, seen: Sequence[Observation], now: float) -> tuple[TrackedObject, ...]:
        """Takes the observations of one more frame, which was captured at `now` seconds; returns the tracks, longest
        followed first."""
        if not 0 <= now - self._at <= MAX_PAUSE_SECONDS:
            self._tracks.clear()
        self._at = now
        pairs = self._pairs(seen, now)
        taken = {index for index, _ in pairs}
        for index, track in pairs:
            track.update(seen[index], now)
        matched = {id(track) for _, track in pairs}
        for track in self._tracks:
            track.missed += id(track) not in matched
        self._tracks = [track for track in self._tracks if now - track.at <= self._keep_seconds]
        for index, observation in enumerate(seen):
            if index not in taken:
                self._tracks.append(_Track(self._next_id, observation, now, now, *_centre(observation)))
                self._next_id += 1
        return tuple(_tracked(track, now) for track in self._tracks)

    def _pairs(self, seen: Sequence[Observation], now: float) -> list[tuple[int, _Track]]:
        """Assigns observations, by their index, to tracks: the nearest pair first."""
        possible: list[tuple[float, int, int]] = []
        boxes = [_Box.of(track.seen, track.expected(now)) for track in self._tracks]
        for index, observation in enumerate(seen):
            box = _Box.of(observation, _centre(observation))
            for number, (track, other) in enumerate(zip(self._tracks, boxes, strict=True)):
                gate = GATE if track.frames > 1 else FIRST_GATE
                # Most pairs end here: the objects of a frame are far from each other.
                if abs(box.x - other.x) <= gate * (box.width + other.width) / 2 and track.seen.class_id == box.class_id:
                    distance = box.apart(other)
                    if distance <= gate:
                        possible.append((distance, index, number))
        possible.sort()
        pairs: dict[int, int] = {}
        taken: set[int] = set()
        for _, index, number in possible:
            if index not in pairs and number not in taken:
                pairs[index] = number
                taken.add(number)
        return [(index, self._tracks[number]) for index, number in pairs.items()]


def _centre(seen: Observation) -> tuple[float, float]:
    return (seen.xmin + seen.xmax) / 2, (seen.ymin + seen.ymax) / 2


def _tracked(track: _Track, now: float) -> TrackedObject:
    return TrackedObject(
        id=track.id,
        seen=track.seen if not track.missed else _moved(track, now),
        frames=track.frames,
        missed=track.missed,
        age=now - track.began_at,
        velocity_x=track.velocity_x,
        velocity_y=track.velocity_y,
    )


def _moved(track: _Track, now: float) -> Observation:
    """The last observation of a track, with the box where its object is expected now; angles and distance stay."""
    x, y = track.expected(now)
    last_x, last_y = _centre(track.seen)
    across, down = x - last_x, y - last_y
    seen = track.seen
    return dataclasses.replace(
        seen,
        xmin=_in_frame(seen.xmin + across),
        xmax=_in_frame(seen.xmax + across),
        ymin=_in_frame(seen.ymin + down),
        ymax=_in_frame(seen.ymax + down),
    )


def _in_frame(value: float) -> float:
    return min(max(value, 0.0), 1.0)
