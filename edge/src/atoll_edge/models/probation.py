"""A new model's first frames: it stays if it answers sanely, and goes at the first sign of trouble. Pure."""

from dataclasses import dataclass
from enum import StrEnum

FRAMES = 150
SECONDS = 20.0
# Slower than this is of no use on a robot, whatever it finds.
MAX_SECONDS_PER_FRAME = 1.0


class Outcome(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    LOST = "the detector was lost while the model was on probation"


@dataclass
class Probation:
    """`started_at` is when the model began to answer; `losses` the detector's count then."""

    started_at: float
    losses: int
    answers: int = 0
    non_finite: int = 0
    slowest: float = 0.0

    def answered(self, *, non_finite: int, seconds: float) -> None:
        self.answers += 1
        self.non_finite += non_finite
        self.slowest = max(self.slowest, seconds)

    def outcome(self, now: float, *, losses: int) -> Outcome | str:
        """How it stands; a string other than an Outcome says why the model must go.

        Without a camera no frame comes; then the time alone decides, as the model did answer its warm-ups.
        """
        if losses > self.losses:
            return Outcome.LOST
        if self.non_finite:
            return f"the model answered {self.non_finite} detections with NaN or infinity"
        if self.slowest > MAX_SECONDS_PER_FRAME:
            return f"the model took {self.slowest:.1f} s for a frame, {MAX_SECONDS_PER_FRAME:g} s are allowed"
        if self.answers >= FRAMES or now - self.started_at >= SECONDS:
            return Outcome.PASSED
        return Outcome.RUNNING
