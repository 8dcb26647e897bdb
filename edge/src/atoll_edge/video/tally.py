"""Counting detections: of each class, in each second of a video."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll_edge.robot.observation import Observation


@dataclass
class Tally:
    """What was seen in one video. `frames_with` counts the frames in which a class occurs at all."""

    labels: Sequence[str]
    frames: int = 0
    seconds: float = 0.0
    frames_in: Counter[int] = field(default_factory=Counter)
    seen_in: dict[int, Counter[str]] = field(default_factory=dict)
    frames_with: Counter[str] = field(default_factory=Counter)

    def add(self, seconds: float, seen: Sequence[Observation]) -> None:
        """Count a frame, `seconds` after the first."""
        second = int(seconds)
        self.frames += 1
        self.seconds = seconds
        self.frames_in[second] += 1
        self.seen_in.setdefault(second, Counter()).update(item.label for item in seen)
        self.frames_with.update({item.label for item in seen})

    @property
    def totals(self) -> Counter[str]:
        return sum(self.seen_in.values(), Counter())

    def document(self) -> dict[str, Any]:
        """The figures for `summary.json`: of each class, and of each second that has frames."""
        totals = self.totals
        # A frame lasts until the next one; the last as long as the others did on average.
        length = self.seconds * self.frames / (self.frames - 1) if self.frames > 1 else 0.0
        return {
            "frames": self.frames,
            "seconds": round(length, 3),
            "frameRate": round(self.frames / length, 3) if length else None,
            "perClass": {
                label: {
                    "detections": totals[label],
                    "frames": self.frames_with[label],
                    "perSecond": round(totals[label] / length, 2) if length else None,
                }
                for label in self.labels
                if totals[label]
            },
            "perSecond": [
                {"second": second, "frames": self.frames_in[second], "detections": dict(self.seen_in[second])}
                for second in sorted(self.frames_in)
            ],
        }
