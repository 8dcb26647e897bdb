"""What comes out of the detector, and how it fares."""

from dataclasses import dataclass, field

from atoll_contract.manifest import Detection
from atoll_edge.detector.backend import Backend
from atoll_edge.models.served import ServedModel


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
