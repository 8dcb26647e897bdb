"""A new model's first frames: it stays if it answers sanely, and goes at the first sign of trouble. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.manager import ModelRefused

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


# Before a model that was refused is asked for again.
RELOAD_SECONDS = 10.0
# The same after a detector that died while it loaded, for each time that it did; so often, then the model is to blame.
LOST_STEP_SECONDS = 0.5
MAX_LOST = 4


class Reloads:
    """Counts the failures in a row. The time is passed in."""

    def __init__(self) -> None:
        self._lost = 0
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        return self._failed_at is not None

    def ended_well(self) -> None:
        self._failed_at, self._lost = None, 0

    def failed(self, error: BaseException, now: float) -> bool:
        """Note a failure; whether it is a new one."""
        if self._failed_at is not None:
            return False
        self._failed_at = now
        self._lost += isinstance(error, DetectorLost)
        return True

    def blames_the_model(self, error: BaseException) -> bool:
        """A glitch of the device, or an accelerator that is not there, is no proof against a model that served."""
        return self._lost >= MAX_LOST if isinstance(error, DetectorLost) else not is_missing(error)

    def due(self, error: BaseException, now: float) -> bool:
        """Whether to ask again; then the next failure is a new one."""
        wait = LOST_STEP_SECONDS * self._lost if isinstance(error, DetectorLost) else RELOAD_SECONDS
        if self._failed_at is None or now - self._failed_at <= wait:
            return False
        self._failed_at = None
        return True


def is_missing(error: BaseException) -> bool:
    """Whether the device refused a model because its accelerator does not answer."""
    return isinstance(error, ModelRefused) and error.missing
