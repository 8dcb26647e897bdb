"""A model for the detector, its results, and the health of the detector."""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
    # For this device's chip.
    rknn_path: Path | None = None
    # The release's document on how the outputs of that file become boxes.
    head_path: Path | None = None
    # The side of the input in pixels; None where no manifest states it.
    side: int | None = None
    # True widths of objects in metres, by label, as the release has them.
    widths: tuple[tuple[str, float], ...] = ()

    def path(self, backend: Backend) -> Path | None:
        """Returns the file for `backend`. A compiled model runs on its chip only; Qualcomm's NPUs run the int8 file."""
        return {Backend.EDGETPU: self.edgetpu_path, Backend.RKNN: self.rknn_path}.get(backend, self.cpu_path)

    def head(self, backend: Backend) -> str | None:
        """Returns the path of the document that `backend` needs beside its file."""
        return str(self.head_path) if self.head_path is not None and backend is Backend.RKNN else None


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
    # The accelerators that were lost too often, do not answer, or cannot run the model, so that another backend does.
    given_up: tuple[Backend, ...] = ()
    pid: int | None = None

    @property
    def fallen_back(self) -> bool:
        return bool(self.given_up)

    def lost(self, reason: str, now: float) -> None:
        """Counts a lost worker."""
        self.losses += 1
        self.last_loss, self.last_loss_at = reason, now


class Detector(Protocol):
    """One detector, or several as one: what brings models into it sees this of it."""

    @property
    def active(self) -> LoadedModelSpec | None: ...

    @property
    def health(self) -> DetectorHealth: ...

    @property
    def idle_accelerators(self) -> tuple[str, ...]: ...

    def backend_for(self, model: LoadedModelSpec) -> Backend | None:
        """See DetectorManager.backend_for."""
        ...

    def request(self, model: LoadedModelSpec) -> "Future[Backend]":
        """See DetectorManager.request."""
        ...
