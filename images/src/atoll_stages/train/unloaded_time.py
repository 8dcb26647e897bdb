"""How long work would take on a machine that does nothing else, measured on one that may be busy.

On a busy machine the wall clock also counts what other programs compute. Processor time does not, but says nothing of
how many processors the work keeps busy at once: that shows in its best moments.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll_stages.runtime.cpus import available_cpus

# Work on up to so many processors keeps this share of them busy, as idle machines show. What more of them do depends on
# the size of the batch, so it is measured.
_FEW_CPUS, _BUSY_SHARE = 4, 0.8
# The share of pieces that may have kept more processors busy than is taken for usual.
_BEST = 0.9


@dataclass
class UnloadedTime:
    """Measures work in pieces: `begin` starts the first, `end` ends one and starts the next. `cpu_before` is the
    processor time that the process took before.

    Work on a GPU (`on_cpu` False) does not wait for processors; its wall time counts.
    """

    on_cpu: bool
    cpus: float = field(default_factory=available_cpus)
    wall_clock: Callable[[], float] = time.perf_counter
    cpu_clock: Callable[[], float] = time.process_time
    pieces: list[tuple[float, float]] = field(default_factory=list)
    cpu_before: float = 0.0
    _begun: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        self._begun = (self.wall_clock(), self.cpu_clock())
        self.cpu_before = self._begun[1]

    def end(self) -> None:
        now = (self.wall_clock(), self.cpu_clock())
        self.pieces.append((now[0] - self._begun[0], now[1] - self._begun[1]))
        self._begun = now

    def total(self) -> float:
        """Returns the seconds of all pieces together."""
        return sum(self._unloaded())

    def median(self) -> float:
        """Returns the seconds of a typical piece."""
        return statistics.median(self._unloaded())

    def _unloaded(self) -> list[float]:
        if not self.on_cpu:
            return [wall for wall, _ in self.pieces]
        busy = self._busy_cpus()
        return [min(wall, cpu / busy) for wall, cpu in self.pieces]

    def _busy_cpus(self) -> float:
        """Returns how many processors the work keeps busy where nothing disturbs it."""
        ratios = sorted(cpu / wall for wall, cpu in self.pieces if wall > 0)
        best = ratios[math.ceil(_BEST * len(ratios)) - 1] if ratios else 1.0
        return max(best, _BUSY_SHARE * min(self.cpus, _FEW_CPUS))
