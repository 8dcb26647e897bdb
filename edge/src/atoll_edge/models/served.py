"""A model as the pipeline serves it: files that were proven elsewhere, labels and thresholds."""

from dataclasses import dataclass
from pathlib import Path

from atoll_edge.detector.backend import Backend

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
