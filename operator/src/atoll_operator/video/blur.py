"""How blurred a picture is, from 0 (sharp) to 1.

The measure follows Crété-Roffet, Dolmière, Ladret and Nicolas, "The blur effect: perception and estimation with a new
no-reference perceptual blur metric" (SPIE 6492, 2007): blur the picture once more and see how much of the difference
between neighbours is lost. A sharp picture loses nearly all of it, a blurred one little, whatever its light. Unlike
there, differences as small as a sensor's noise count for nothing: noise is always sharp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pixels of width at which blur is measured: noise averages out, and what is sharp here is sharp enough for a detector
# that sees 300 pixels.
BLUR_WIDTH = 120
WINDOW = 5
# Of 255 levels: less is noise.
NOISE = 3.0
# A difference between neighbours, on average, below which there is nothing to be seen.
NOTHING = 0.05


def blur(gray: NDArray[Any]) -> float:
    """The blur of a gray picture (rows, columns), in the direction that suffers most; 1 where nothing is to be seen.

    Smearing in one direction, as by a turning robot, leaves the other sharp: hence the worse of the two.
    """
    found = [value for value in (_along_rows(gray), _along_rows(gray.T)) if value is not None]
    return max(found, default=1.0)


def _along_rows(gray: NDArray[Any]) -> float | None:
    """The blur from row to row; None where nothing differs."""
    import numpy as np

    levels = np.asarray(gray, np.float32)
    padded = np.pad(levels, ((WINDOW // 2 + 1, WINDOW // 2), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    again = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    before = np.abs(np.diff(levels, axis=0))
    counted = before > NOISE
    lost = np.maximum(0, before - np.abs(np.diff(again, axis=0)))
    total = float(before[counted].sum())
    return None if total <= NOTHING * before.size else (total - float(lost[counted].sum())) / total
