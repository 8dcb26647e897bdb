"""Which kept frame a frame is like, and how much of the picture differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The picture is compared in 32 × 32 cells by their mean brightness: that averages the sensor's noise away. A ball of a
# tenth of the picture's height that moves on changes some twenty of them, two hundredths of the picture.
CELLS = 32
# Of 255; a cell that differs by less has not changed.
LEVELS = 12


@dataclass(frozen=True)
class Likeness:
    """The kept frame that is most like another, and the share of cells (0 to 1) in which they differ."""

    name: str
    change: float


class Gallery:
    """The frames kept so far, of all videos: a passage that comes again is known from the first time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._cells: NDArray[Any] | None = None

    def nearest(self, cells: NDArray[Any]) -> Likeness | None:
        """The kept frame that differs least from this one, gray `CELLS` × `CELLS`; None while there is none."""
        import numpy as np

        if not self._names or self._cells is None:
            return None
        known = self._cells[: len(self._names)]
        changed = np.abs(known - _centred(cells)) > LEVELS
        shares = changed.mean(axis=1)
        best = int(shares.argmin())
        return Likeness(self._names[best], float(shares[best]))

    def add(self, name: str, cells: NDArray[Any]) -> None:
        """Remember a frame that is kept."""
        import numpy as np

        if self._cells is None:
            self._cells = np.empty((256, CELLS * CELLS), np.int16)
        if len(self._names) == len(self._cells):
            self._cells = np.concatenate([self._cells, np.empty_like(self._cells)])
        self._cells[len(self._names)] = _centred(cells)
        self._names.append(name)


def _centred(cells: NDArray[Any]) -> NDArray[Any]:
    """Brightness about its median: a lamp or the camera's exposure changes every cell and shows nothing new."""
    import numpy as np

    flat = np.asarray(cells, np.int16).ravel()
    return flat - np.int16(np.median(flat))
