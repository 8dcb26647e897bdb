"""From a point of the picture to the direction in which the camera sees it: by the field of view, or by a calibration.

A direction is a pair (x, y): how far to the right and down a point is, at a distance of one in front of the camera.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

# The lens is inverted once, at this many points; between them it is as good as linear.
GRID = (65, 49)
ITERATIONS = 100
# A direction that the lens brings back to its point within this share of the picture counts as found.
MAX_RESIDUAL = 1e-4


class Lens(Protocol):
    """What the observations need of a camera."""

    def direction(self, u: float, v: float) -> tuple[float, float]:
        """Returns the direction of a point of the picture, 0…1 from the top left."""
        ...


@dataclass(frozen=True)
class FieldOfView:
    """A lens without distortion; the camera's full angles of view in degrees."""

    horizontal: float = 60.0
    vertical: float = 47.0

    def direction(self, u: float, v: float) -> tuple[float, float]:
        half_x, half_y = (math.tan(math.radians(angle / 2)) for angle in (self.horizontal, self.vertical))
        return (2 * u - 1) * half_x, (2 * v - 1) * half_y


@dataclass(frozen=True)
class Intrinsics:
    """A calibration as OpenCV has it, in units of the picture's width and height. `distortion` is k1, k2, p1, p2, k3,
    k4, k5, k6, s1 to s4, or less of them."""

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]


class CalibratedLens:
    """A lens whose distortion is taken out. `uncertain` is the share of the picture, mostly its corners, where the
    calibration cannot be inverted, and which counts as free of distortion."""

    def __init__(self, intrinsics: Intrinsics) -> None:
        import numpy as np

        columns, rows = GRID
        u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
        wanted = np.stack([(u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy])
        found, residual = _undistorted(wanted, intrinsics.distortion)
        scale = np.array([intrinsics.fx, intrinsics.fy])[:, None, None]
        good = np.all(np.abs(residual) * scale < MAX_RESIDUAL, axis=0)
        self.uncertain = float(1 - good.mean())
        directions = np.where(good, found, wanted)
        self._x: list[list[float]] = directions[0].tolist()
        self._y: list[list[float]] = directions[1].tolist()

    def direction(self, u: float, v: float) -> tuple[float, float]:
        column, right = _cell(u, GRID[0])
        row, below = _cell(v, GRID[1])
        x, y = (_between(grid, (row, column), (below, right)) for grid in (self._x, self._y))
        return x, y


def _between(grid: list[list[float]], at: tuple[int, int], share: tuple[float, float]) -> float:
    """The value between a point of the grid and the three to its right and below."""
    (row, column), (below, right) = at, share
    first, second = grid[row], grid[row + 1]
    upper = first[column] + right * (first[column + 1] - first[column])
    lower = second[column] + right * (second[column + 1] - second[column])
    return upper + below * (lower - upper)


def _cell(value: float, points: int) -> tuple[int, float]:
    """The grid's point before `value`, and how far it is to the next one."""
    scaled = value * (points - 1)
    index = min(max(int(scaled), 0), points - 2)
    return index, scaled - index


def _undistorted(
    wanted: "NDArray[float64]", distortion: tuple[float, ...]
) -> "tuple[NDArray[float64], NDArray[float64]]":
    """Finds the directions that the lens shows at `wanted`, and how far off each is in the end."""
    import numpy as np

    found = wanted.copy()
    with np.errstate(all="ignore"):
        for _ in range(ITERATIONS):
            radial, shift = _distortion(found, distortion)
            found = (wanted - shift) / radial
        radial, shift = _distortion(found, distortion)
        residual = found * radial + shift - wanted
    return found, np.where(np.isfinite(residual), residual, np.inf)


def _distortion(points: "NDArray[float64]", distortion: tuple[float, ...]) -> tuple[Any, Any]:
    """The factor and the shift by which the lens moves points."""
    import numpy as np

    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (*distortion, *[0.0] * (12 - len(distortion)))
    x, y = points
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    shift_x = 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    shift_y = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    return radial, np.stack([shift_x, shift_y])
