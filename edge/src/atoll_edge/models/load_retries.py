"""When a model that could not be loaded is loaded again, and when the model itself is to blame."""

from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.loads import ModelRefused

# Delay before a model that was refused is loaded again.
RELOAD_SECONDS = 10.0
# The delay grows by this for each worker that died while it loaded the model; after MAX_LOST the model is to blame.
LOST_STEP_SECONDS = 0.5
MAX_LOST = 4


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
        """Returns False for a missing accelerator, and for a lost worker unless it happened MAX_LOST times."""
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
