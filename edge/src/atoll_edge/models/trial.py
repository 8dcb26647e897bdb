"""When a new model has proved itself on live frames, and when a model that failed to load is loaded again. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.manager import ModelRefused

# A trial ends after so many results, or so many seconds.
FRAMES = 150
SECONDS = 20.0
# A slower model is of no use on a robot.
MAX_SECONDS_PER_FRAME = 1.0
# Before a model that was refused is loaded again.
RELOAD_SECONDS = 10.0
# The same after a worker that died while it loaded, for each such loss; after MAX_LOST of them the model is to blame.
LOST_STEP_SECONDS = 0.5
MAX_LOST = 4


class TrialOutcome(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    LOST = "the detector was lost while the model was on probation"


@dataclass
class Trial:
    """The first results of a new model. `started_at`: when it became active; `losses`: the detector's count then."""

    started_at: float
    losses: int
    answers: int = 0
    non_finite: int = 0
    slowest: float = 0.0

    def add_result(self, *, non_finite: int, seconds: float) -> None:
        self.answers += 1
        self.non_finite += non_finite
        self.slowest = max(self.slowest, seconds)

    def outcome(self, now: float, *, losses: int) -> TrialOutcome | str:
        """Returns a TrialOutcome, or the reason why the model must go.

        Without a camera no frame comes; then the time alone decides, since the model did process its warm-up images.
        """
        if losses > self.losses:
            return TrialOutcome.LOST
        if self.non_finite:
            return f"the model answered {self.non_finite} detections with NaN or infinity"
        if self.slowest > MAX_SECONDS_PER_FRAME:
            return f"the model took {self.slowest:.1f} s for a frame, {MAX_SECONDS_PER_FRAME:g} s are allowed"
        if self.answers >= FRAMES or now - self.started_at >= SECONDS:
            return TrialOutcome.PASSED
        return TrialOutcome.RUNNING


class LoadRetries:
    """Counts a model's load failures in a row. Times are passed in."""

    def __init__(self) -> None:
        self._lost = 0
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        return self._failed_at is not None

    def succeeded(self) -> None:
        self._failed_at, self._lost = None, 0

    def failed(self, error: BaseException, now: float) -> bool:
        """Counts a failure; returns False for one that was counted already."""
        if self._failed_at is not None:
            return False
        self._failed_at = now
        self._lost += isinstance(error, DetectorLost)
        return True

    def blames_the_model(self, error: BaseException) -> bool:
        """A lost worker, unless it happens MAX_LOST times, and a missing accelerator are the device's fault."""
        return self._lost >= MAX_LOST if isinstance(error, DetectorLost) else not is_missing(error)

    def due(self, error: BaseException, now: float) -> bool:
        """Returns whether to load the model again; the next failure then counts as a new one."""
        wait = LOST_STEP_SECONDS * self._lost if isinstance(error, DetectorLost) else RELOAD_SECONDS
        if self._failed_at is None or now - self._failed_at <= wait:
            return False
        self._failed_at = None
        return True


def is_missing(error: BaseException) -> bool:
    """Returns whether a model was refused because the accelerator does not answer."""
    return isinstance(error, ModelRefused) and error.missing
