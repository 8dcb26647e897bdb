"""A model as the pipeline serves it: files that were proven elsewhere, labels and thresholds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.release import Detection
from atoll_edge.detector.backends import Backend

# Score from which a class counts as seen where no manifest says so: what the seed's scripts had fixed.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class ServedModel:
    """`digest` names the release (hex sha256 of its manifest, or of the model file where there is none)."""

    name: str
    digest: str
    sequence: int
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    cpu_path: Path | None
    edgetpu_path: Path | None = None

    def path(self, backend: Backend) -> Path | None:
        """The file for `backend`; a compiled model runs on the Edge TPU only."""
        return self.edgetpu_path if backend is Backend.EDGETPU else self.cpu_path


class BackendChoice:
    """What the configuration allows: `auto` prefers an Edge TPU that is there, and goes on without."""

    def __init__(self, wanted: str, coral_present: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._coral_present = coral_present

    @property
    def cpu_allowed(self) -> bool:
        return self._wanted != Backend.EDGETPU

    @property
    def first(self) -> Backend:
        """What will run a model that has a file for each."""
        if self._wanted == Backend.EDGETPU or self.worth_a_probe:
            return Backend.EDGETPU
        return Backend.CPU

    @property
    def worth_a_probe(self) -> bool:
        """Whether an Edge TPU is listed that may be used; one that was plugged in late is one too."""
        return self._wanted == "auto" and self._coral_present()

    def choose(self, model: ServedModel, *, fallen_back: bool) -> Backend | None:
        """The backend for `model`; None where there is none that could run it."""
        edgetpu = self._wanted in ("auto", Backend.EDGETPU) and model.edgetpu_path is not None
        forced = self._wanted == Backend.EDGETPU
        if edgetpu and (forced or (not fallen_back and self._coral_present())):
            return Backend.EDGETPU
        if self.cpu_allowed and model.cpu_path is not None:
            return Backend.CPU
        return Backend.EDGETPU if edgetpu else None


@dataclass(frozen=True)
class Answer:
    """What the detector said of one frame, and the model that said it."""

    model: ServedModel
    backend: Backend
    detections: tuple[Detection, ...]
    non_finite: int
    seconds: float


@dataclass
class Health:
    """Counters that other threads read."""

    losses: int = 0
    last_loss: str = ""
    # By the monotonic clock.
    last_loss_at: float | None = None
    last_refusal: str = ""
    backend: Backend | None = None
    # The CPU runs the model because the Edge TPU was lost too often, or does not answer.
    fallen_back: bool = False
    pid: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)

    def lost(self, reason: str, now: float) -> None:
        """Count a lost child."""
        self.losses += 1
        self.last_loss, self.last_loss_at = reason, now
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
