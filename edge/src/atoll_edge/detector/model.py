"""A model for the detector, the backend that runs it, its results, and the health of the detector."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.images import Resize
from atoll_contract.release import Detection
from atoll_edge.detector.backends.base import Backend

# The threshold of a class for which no manifest has one: the value that the seed's scripts used.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class LoadedModelSpec:
    """Verified files with their labels and thresholds.

    `digest` identifies the release: the hex sha256 of its manifest, or of the model file where there is no manifest.
    """

    name: str
    digest: str
    sequence: int
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    cpu_path: Path | None
    edgetpu_path: Path | None = None
    resize: Resize = Resize.SQUASH

    def path(self, backend: Backend) -> Path | None:
        """Returns the file for `backend`; a compiled model runs on the Edge TPU only."""
        return self.edgetpu_path if backend is Backend.EDGETPU else self.cpu_path


class BackendChoice:
    """Chooses a backend within the configuration: `auto` prefers an Edge TPU, and does without where there is none."""

    def __init__(self, wanted: str, coral_present: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._coral_present = coral_present

    @property
    def cpu_allowed(self) -> bool:
        return self._wanted != Backend.EDGETPU

    @property
    def first(self) -> Backend:
        """The backend that would run a model with a file for each."""
        if self._wanted == Backend.EDGETPU or self.edgetpu_available:
            return Backend.EDGETPU
        return Backend.CPU

    @property
    def edgetpu_available(self) -> bool:
        """Whether an Edge TPU may be used and is listed now, also one that was plugged in late."""
        return self._wanted == "auto" and self._coral_present()

    def choose(self, model: LoadedModelSpec, *, fallen_back: bool) -> Backend | None:
        """Returns the backend for `model`; None if none can run it."""
        edgetpu = self._wanted in ("auto", Backend.EDGETPU) and model.edgetpu_path is not None
        forced = self._wanted == Backend.EDGETPU
        if edgetpu and (forced or (not fallen_back and self._coral_present())):
            return Backend.EDGETPU
        if self.cpu_allowed and model.cpu_path is not None:
            return Backend.CPU
        return Backend.EDGETPU if edgetpu else None


@dataclass(frozen=True)
class DetectionResult:
    """The detections in one frame and the model that found them; `seconds` is the time of the inference."""

    model: LoadedModelSpec
    backend: Backend
    detections: tuple[Detection, ...]
    non_finite: int
    seconds: float


@dataclass
class DetectorHealth:
    """Counters and state of the detector that other threads read."""

    losses: int = 0
    last_loss: str = ""
    # On the monotonic clock.
    last_loss_at: float | None = None
    last_refusal: str = ""
    backend: Backend | None = None
    # True while the CPU runs the model because the Edge TPU was lost too often or does not answer.
    fallen_back: bool = False
    pid: int | None = None

    def lost(self, reason: str, now: float) -> None:
        """Counts a lost worker."""
        self.losses += 1
        self.last_loss, self.last_loss_at = reason, now
