"""Which kept frame a frame is like, and how much of the picture differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_contract.likeness import CELLS, centred, changes

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        if not self._names or self._cells is None:
            return None
        shares = changes(self._cells[: len(self._names)], centred(cells))
        best = int(shares.argmin())
        return Likeness(self._names[best], float(shares[best]))

    def add(self, name: str, cells: NDArray[Any]) -> None:
        """Remember a frame that is kept."""
        import numpy as np

        if self._cells is None:
            self._cells = np.empty((256, CELLS * CELLS), np.int16)
        if len(self._names) == len(self._cells):
            self._cells = np.concatenate([self._cells, np.empty_like(self._cells)])
        self._cells[len(self._names)] = centred(cells)
        self._names.append(name)
