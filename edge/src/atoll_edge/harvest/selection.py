"""Which frames are worth the card: the most doubtful one of each interval, and none that is like one just kept."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_contract.likeness import changes
from atoll_edge.detector.answer import Answer
from atoll_edge.frames.frame import Frame
from atoll_edge.harvest.doubt import Doubt

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A robot that stands in the pit all night shows one picture: it is kept once.
REMEMBERED = 256
# The share of the picture that must differ; what `atoll frames` asks for.
MIN_CHANGE = 0.01


@dataclass(frozen=True)
class Candidate:
    """A frame with what the model said of it, and when by the device's clock (seconds since 1970)."""

    frame: Frame
    answer: Answer
    thresholds: tuple[float, ...]
    doubt: Doubt
    cells: "NDArray[Any]"
    taken_at: float


class Selection:
    """Frames are offered by the detector's thread and taken by another."""

    def __init__(self, *, min_doubt: float, every_seconds: float, now: float) -> None:
        self._min_doubt = min_doubt
        self._every_seconds = every_seconds
        self._due_at = now + every_seconds
        self._lock = threading.Lock()
        self._best: Candidate | None = None
        self._kept: deque[NDArray[Any]] = deque(maxlen=REMEMBERED)

    def offer(self, candidate: Candidate) -> None:
        """Hold it until a more doubtful one comes."""
        with self._lock:
            if candidate.doubt.boxes < max(self._min_doubt, self._best.doubt.boxes if self._best else 0.0):
                return
            if not self._is_known(candidate):
                self._best = candidate

    def take(self, now: float) -> Candidate | None:
        """The most doubtful frame since the last one that was taken, once an interval is over."""
        with self._lock:
            if now < self._due_at or self._best is None:
                return None
            best, self._best = self._best, None
            self._due_at = now + self._every_seconds
            self._kept.append(best.cells)
            return best

    def _is_known(self, candidate: Candidate) -> bool:
        import numpy as np

        if not self._kept:
            return False
        return bool(changes(np.stack(self._kept), candidate.cells).min() < MIN_CHANGE)
