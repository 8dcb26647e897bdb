"""How much of one picture differs from another, at a glance: the same measure on the device and on the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The picture is compared in 32 × 32 cells by their mean brightness: that averages the sensor's noise away. A ball of a
# tenth of the picture's height that moves on changes some twenty of them, two hundredths of the picture.
CELLS = 32
# Of 255; a cell that differs by less has not changed.
LEVELS = 12


def centred(cells: NDArray[Any]) -> NDArray[Any]:
    """Gray `CELLS` × `CELLS`, flat, about its median: a lamp or the camera's exposure changes every cell and shows
    nothing new."""
    import numpy as np

    flat = np.asarray(cells, np.int16).ravel()
    return flat - np.int16(np.median(flat))


def changes(known: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """The share of cells (0 to 1) in which each of `known` [n, CELLS²] differs from `cells` [CELLS²], both centred."""
    import numpy as np

    shares: NDArray[Any] = (np.abs(known - cells) > LEVELS).mean(axis=-1)
    return shares
