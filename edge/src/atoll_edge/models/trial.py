"""The trial of a model that has just become active: its first results decide whether it stays."""

from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

# A trial ends after this many results, or this many seconds.
TRIAL_FRAMES = 150
TRIAL_SECONDS = 20.0
# A slower model is of no use on a robot. So many frames say how long it takes.
MAX_SECONDS_PER_FRAME = 1.0
SPEED_FRAMES = 5


class TrialOutcome(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    LOST = "the detector was lost while the model was on probation"


@dataclass
class Trial:
    """The first results of a new model. `started_at`: when it became active; `losses`: the detector's count then."""

    started_at: float
    losses: int
    non_finite: int = 0
    seconds: list[float] = field(default_factory=list)

    def add_result(self, *, non_finite: int, seconds: float) -> None:
        self.non_finite += non_finite
        self.seconds.append(seconds)

    def outcome(self, now: float, *, losses: int) -> TrialOutcome | str:
        """Returns a TrialOutcome, or the reason why the model must go.

        Without a camera no frame comes; then the time alone decides, since the model did process its warm-up images.
        """
        if losses > self.losses:
            return TrialOutcome.LOST
        if self.non_finite:
            return f"the model answered {self.non_finite} detections with NaN or infinity"
        is_over = len(self.seconds) >= TRIAL_FRAMES or now - self.started_at >= TRIAL_SECONDS
        if len(self.seconds) >= SPEED_FRAMES or (is_over and self.seconds):
            # Of single frames the device may be to blame: what else it does, or its card.
            usual = median(self.seconds)
            if usual > MAX_SECONDS_PER_FRAME:
                return f"the model took {usual:.1f} s for a frame, {MAX_SECONDS_PER_FRAME:g} s are allowed"
        return TrialOutcome.PASSED if is_over else TrialOutcome.RUNNING
