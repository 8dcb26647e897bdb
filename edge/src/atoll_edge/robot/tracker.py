"""Follows objects from frame to frame: each keeps its number while it is hidden, or missed, for a while.

A track predicts where its object is now, and how sure that is. The detections of a frame go to the tracks of their
class, the most likely pair first, by place and size; what is left begins a new track. There is no assignment over all
pairs at once: it found no better ones in scenes of twenty objects that hide each other.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_edge.robot.detection import Observation
from atoll_edge.robot.kalman import CoordinateFilter

# How far an object may be from where it is expected, in its own sizes, besides the way back of one that turned.
GATE = 1.5
# The error of a box's place and of its size, in its own sizes.
POSITION_NOISE = 0.04
SIZE_NOISE = 0.04
# How much the size of an object changes in a second, and how much another size may differ, as a logarithm.
SIZE_DRIFT = 0.03
SIZE_GATE = 0.5
# The cost of a new object: a track that would cost more is another one's.
NEW_COST = 6.0
# Times the logarithm of the frames that missed it, this is the cost of a track: what is hidden tends to stay so.
MISSED_COST = 2.0
# A track whose place another one covers is kept so many times as long.
COVERED_FACTOR = 3.0
# A frame that comes later than this says nothing of where an object was before.
MAX_PAUSE_SECONDS = 1.0
# Below this a box counts as having this size, so that its logarithm and its error are numbers.
MIN_SIDE = 1e-4


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


class _Box:
    """A detection as tracks see it: its middle, its sides, and the logarithm of its size."""

    __slots__ = ("class_id", "height", "size", "width", "x", "y")

    def __init__(self, seen: Observation) -> None:
        self.class_id = seen.class_id
        self.x, self.y = _centre(seen)
        self.width = max(seen.xmax - seen.xmin, MIN_SIDE)
        self.height = max(seen.ymax - seen.ymin, MIN_SIDE)
        self.size = math.log(self.width * self.height) / 2


class _Track:
    def __init__(self, number: int, seen: Observation, box: _Box, now: float) -> None:
        self.id = number
        self.seen = seen
        self.began_at = self.at = self.predicted_at = now
        self.frames = 1
        self.missed = 0
        # The seconds since it was seen in which nothing covered its place.
        self.uncovered = 0.0
        self.class_id = box.class_id
        self.width, self.height, self.size = box.width, box.height, box.size
        self._size_variance = SIZE_NOISE**2
        self.across = CoordinateFilter(box.x, POSITION_NOISE * box.width)
        self.down = CoordinateFilter(box.y, POSITION_NOISE * box.height)

    def predict(self, now: float) -> None:
        """Moves the track on to `now`; one that reaches the frame's side is expected there."""
        seconds = now - self.predicted_at
        self.predicted_at = now
        for coordinate, side in ((self.across, self.width), (self.down, self.height)):
            coordinate.predict(seconds, side)
            coordinate.keep_within(side / 2, 1 - side / 2)
        self._size_variance += SIZE_DRIFT**2 * seconds

    def cost(self, box: _Box, now: float) -> float:
        """Returns how unlikely it is that `box` shows this object; infinity where it cannot be."""
        if box.class_id != self.class_id:
            return math.inf
        seconds = self._seconds(now)
        width = (box.width + self.width) / 2
        across = box.x - self.across.value
        # Most pairs end here: the objects of a frame are far from each other.
        if abs(across) > GATE * width + 2 * self.across.top_speed * seconds:
            return math.inf
        height = (box.height + self.height) / 2
        down = box.y - self.down.value
        if abs(down) > GATE * height + 2 * self.down.top_speed * seconds:
            return math.inf
        larger = box.size - self.size
        if abs(larger) > SIZE_GATE:
            return math.inf
        variance = self._size_variance + SIZE_NOISE**2
        return (
            larger * larger / variance
            + math.log(variance)
            + MISSED_COST * math.log(1 + self.missed)
            + self.across.cost(across, POSITION_NOISE * width, width, seconds)
            + self.down.cost(down, POSITION_NOISE * height, height, seconds)
        )

    def update(self, seen: Observation, box: _Box, now: float) -> None:
        seconds = self._seconds(now)
        self.across.update(box.x, POSITION_NOISE * box.width, self.width, seconds)
        self.down.update(box.y, POSITION_NOISE * box.height, self.height, seconds)
        gain = self._size_variance / (self._size_variance + SIZE_NOISE**2)
        self.size += gain * (box.size - self.size)
        self._size_variance -= gain * self._size_variance
        self.width += gain * (box.width - self.width)
        self.height += gain * (box.height - self.height)
        self.seen, self.at, self.missed, self.uncovered = seen, now, 0, 0.0
        self.frames += 1

    def covers(self, other: "_Track") -> bool:
        return (
            abs(self.across.value - other.across.value) < (self.width + other.width) / 2
            and abs(self.down.value - other.down.value) < (self.height + other.height) / 2
        )

    def _seconds(self, now: float) -> float:
        return max(now - self.at, 1e-3)


class Tracker:
    """The tracks of one camera. `keep_seconds` is how long an object that no frame shows keeps its number; one that is
    expected behind another object keeps it for up to three times as long."""

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
        passed, self._at = now - self._at, now
        for track in self._tracks:
            track.predict(now)
        boxes = [_Box(observation) for observation in seen]
        pairs = self._pairs(boxes, now)
        for index, number in pairs.items():
            self._tracks[number].update(seen[index], boxes[index], now)
        self._end_lost(set(pairs.values()), passed, now)
        for index, observation in enumerate(seen):
            if index not in pairs:
                self._tracks.append(_Track(self._next_id, observation, boxes[index], now))
                self._next_id += 1
        return tuple(_tracked(track, now) for track in self._tracks)

    def _pairs(self, boxes: Sequence[_Box], now: float) -> dict[int, int]:
        """Assigns boxes to tracks, both by their index: the most likely pair first."""
        possible: list[tuple[float, int, int]] = []
        for index, box in enumerate(boxes):
            for number, track in enumerate(self._tracks):
                cost = track.cost(box, now)
                if cost < NEW_COST:
                    possible.append((cost, index, number))
        possible.sort()
        pairs: dict[int, int] = {}
        taken: set[int] = set()
        for _, index, number in possible:
            if index not in pairs and number not in taken:
                pairs[index] = number
                taken.add(number)
        return pairs

    def _end_lost(self, matched: set[int], passed: float, now: float) -> None:
        """Counts the frame for the tracks that it does not show, and ends those that are lost for too long."""
        present = [track for track in self._tracks if now - track.at <= self._keep_seconds]
        kept = []
        for number, track in enumerate(self._tracks):
            if number not in matched:
                track.missed += 1
                if not any(other.covers(track) for other in present if other is not track):
                    track.uncovered += passed
            if track.uncovered <= self._keep_seconds and now - track.at <= COVERED_FACTOR * self._keep_seconds:
                kept.append(track)
        self._tracks = kept


def _centre(seen: Observation) -> tuple[float, float]:
    return (seen.xmin + seen.xmax) / 2, (seen.ymin + seen.ymax) / 2


def _tracked(track: _Track, now: float) -> TrackedObject:
    return TrackedObject(
        id=track.id,
        seen=track.seen if not track.missed else _moved(track),
        frames=track.frames,
        missed=track.missed,
        age=now - track.began_at,
        velocity_x=track.across.speed,
        velocity_y=track.down.speed,
    )


def _moved(track: _Track) -> Observation:
    """The last observation of a track, with the box where its object is expected now; angles and distance stay."""
    last_x, last_y = _centre(track.seen)
    across, down = track.across.value - last_x, track.down.value - last_y
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
