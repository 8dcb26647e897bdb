"""A model that served before and cannot be loaded now: when it is asked for again, and when it is to blame."""

from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.pending import ModelRefused

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
