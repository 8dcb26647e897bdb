"""Scenes of moving boxes for the tracker: they bounce off the frame's sides, hide each other, and are missed at
times."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from atoll_edge.robot.detection import Observation

FPS = 30
HIDDEN_SHARE = 0.5


@dataclass
class MovingBox:
    x: float
    y: float
    side: float
    speed_x: float
    speed_y: float
    class_id: int

    def step(self) -> None:
        half = self.side / 2
        self.x, self.speed_x = _bounced(self.x + self.speed_x / FPS, self.speed_x, half)
        self.y, self.speed_y = _bounced(self.y + self.speed_y / FPS, self.speed_y, half)

    def hides(self, other: "MovingBox") -> bool:
        """Whether so much of a smaller box is behind this one that no detector finds it."""
        if self.side <= other.side:
            return False
        across = min(self.x + self.side / 2, other.x + other.side / 2) - max(
            self.x - self.side / 2, other.x - other.side / 2
        )
        down = min(self.y + self.side / 2, other.y + other.side / 2) - max(
            self.y - self.side / 2, other.y - other.side / 2
        )
        return across > 0 and down > 0 and across * down > HIDDEN_SHARE * other.side**2


def moving_boxes(
    seed: int, count: int, *, frames: int = 1000, missed: float = 0.2, jitter: float = 0.03, classes: int = 2
) -> Iterator[tuple[float, list[tuple[int, Observation]]]]:
    """Yields each frame's time in seconds, and its observations with the number of the box. `missed` is the share of
    boxes that are not found, `jitter` the error of a box's sides in its own sizes."""
    chance = random.Random(seed)
    boxes = [
        MovingBox(
            # They begin apart from each other.
            x=(index % 5 + 0.5) / 5,
            y=(index // 5 + 0.5) / (1 + (count - 1) // 5),
            side=chance.uniform(0.05, 0.13),
            speed_x=chance.uniform(-0.35, 0.35),
            speed_y=chance.uniform(-0.2, 0.2),
            class_id=chance.randrange(classes),
        )
        for index in range(count)
    ]
    for frame in range(frames):
        seen = []
        for number, box in enumerate(boxes):
            box.step()
            if chance.random() >= missed and not any(other.hides(box) for other in boxes):
                seen.append((number, _observed(box, chance, jitter)))
        chance.shuffle(seen)
        yield frame / FPS, seen


def _observed(box: MovingBox, chance: random.Random, jitter: float) -> Observation:
    half = box.side / 2
    left, top, right, bottom = (chance.gauss(0, jitter) * box.side for _ in range(4))
    corners = (box.x - half + left, box.y - half + top, box.x + half + right, box.y + half + bottom)
    return Observation(box.class_id, "ab"[box.class_id], 0.9, *corners, yaw=0.0, pitch=0.0, area=box.side**2)


def _bounced(at: float, speed: float, half: float) -> tuple[float, float]:
    inside = min(max(at, half), 1 - half)
    return inside, abs(speed) if at < half else -abs(speed) if at > 1 - half else speed
