"""Solid bodies as distance functions: how far a point is from the surface, negative inside.

A ray finds the surface by steps of that distance (sphere tracing, Hart 1996), so that one routine draws every shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from atoll_stages.sample.camera import Array

Shape = Callable[[Array, Array, Array], Array]
Colour = tuple[float, float, float]

STEPS = 48
TOUCHES = 0.0006
# How often rays that have ended are sorted out.
SORT_EVERY = 4


def sphere(radius: float) -> Shape:
    return lambda x, y, z: np.sqrt(x * x + y * y + z * z) - radius


def torus(radius: float, thickness: float) -> Shape:
    """A ring around z: `radius` to the middle of its body, which has the radius `thickness`."""
    return lambda x, y, z: np.sqrt((np.sqrt(x * x + y * y) - radius) ** 2 + z * z) - thickness


def tube(radius: float, wall: float, length: float) -> Shape:
    """A pipe along z, open at both ends; a `wall` as thick as the radius makes a full cylinder."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        around = np.abs(np.sqrt(x * x + y * y) - (radius - wall / 2)) - wall / 2
        if wall >= radius:
            around = np.sqrt(x * x + y * y) - radius
        return _both(around, np.abs(z) - length / 2)

    return distance


def block(width: float, depth: float, height: float) -> Shape:
    def distance(x: Array, y: Array, z: Array) -> Array:
        a, b, c = np.abs(x) - width / 2, np.abs(y) - depth / 2, np.abs(z) - height / 2
        outside: Array = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2 + np.maximum(c, 0) ** 2)
        inside = np.minimum(np.maximum(a, np.maximum(b, c)), 0)
        return outside + inside

    return distance


def cone(radius: float, height: float) -> Shape:
    """A traffic cone on z = -height/2; its tip is cut off."""
    slope = math.cos(math.atan2(0.75 * radius, height))

    def distance(x: Array, y: Array, z: Array) -> Array:
        wide = radius * (1 - 0.75 * (z / height + 0.5))
        return _both((np.sqrt(x * x + y * y) - wide) * slope, np.abs(z) - height / 2)

    return distance


def _both(a: Array, b: Array) -> Array:
    """The distance from what lies in two bodies that stand at right angles."""
    outside: Array = np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2)
    inside = np.minimum(np.maximum(a, b), 0)
    return outside + inside


@dataclass(frozen=True)
class Solid:
    """A body in the world. `kind` is the class of a game piece and "" for everything else.

    `turn` are the rows of the rotation from the world into the shape's coordinates. `reach` is the radius of a sphere
    around it. `hollow` is the radius within which its inside is in the dark.
    """

    shape: Shape
    centre: tuple[float, float, float]
    turn: tuple[Colour, Colour, Colour]
    reach: float
    colour: Colour
    kind: str = ""
    gloss: float = 0.1
    hollow: float = 0.0

    @cached_property
    def _rows(self) -> Array:
        return np.array(self.turn, np.float32)

    def local(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """A point of the world in the shape's coordinates."""
        return self._rotated(x - self.centre[0], y - self.centre[1], z - self.centre[2])

    def _rotated(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        a, b, c = (row[0] * x + row[1] * y + row[2] * z for row in self._rows)
        return a, b, c

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        return self.shape(*self.local(x, y, z))

    def hits(self, origin: tuple[float, float, float], directions: tuple[Array, Array, Array]) -> Array:
        """How far along each ray (of a flat array) the surface is; infinite where the ray misses."""
        start = [np.float32(value) for value in origin]
        ox, oy, oz = (np.float32(value) for value in self.local(*start))  # type: ignore[arg-type]
        dx, dy, dz = self._rotated(*directions)
        found = np.full(dx.shape, np.inf, np.float32)
        # Where each ray enters and leaves the sphere around the body.
        nearest = -(ox * dx + oy * dy + oz * dz)
        square = nearest**2 - (ox * ox + oy * oy + oz * oz - np.float32(self.reach) ** 2)
        active = np.flatnonzero((square > 0) & (nearest > 0))
        half = np.sqrt(square[active])
        along, end = np.maximum(nearest[active] - half, 0), nearest[active] + half
        dx, dy, dz = dx[active], dy[active], dz[active]
        for step in range(STEPS):
            distance = self.shape(ox + along * dx, oy + along * dy, oz + along * dz)
            along = along + distance
            if step % SORT_EVERY == SORT_EVERY - 1 or step == STEPS - 1:
                done = distance < TOUCHES
                found[active[done]] = along[done]
                kept = ~done & (along < end)
                active, along, end = active[kept], along[kept], end[kept]
                dx, dy, dz = dx[kept], dy[kept], dz[kept]
                if not active.size:
                    break
        return found

    def normals(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """The directions in which the surface looks, in the world, at points on it."""
        a, b, c = self.local(x, y, z)
        gap = np.float32(0.001)
        total = [np.zeros_like(a) for _ in range(3)]
        # The four corners of a tetrahedron give the gradient with four evaluations.
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            value = self.shape(a + gap * corner[0], b + gap * corner[1], c + gap * corner[2])
            for axis in range(3):
                total[axis] += corner[axis] * value
        length = np.sqrt(sum(part * part for part in total)) + np.float32(1e-12)
        columns = self._rows.T
        nx, ny, nz = (
            (columns[axis][0] * total[0] + columns[axis][1] * total[1] + columns[axis][2] * total[2]) / length
            for axis in range(3)
        )
        return nx, ny, nz


def turned(yaw: float, tilt: float = 0.0) -> tuple[Colour, Colour, Colour]:
    """The rows of a rotation: the shape's z axis leans by `tilt` from upright towards the direction `yaw`."""
    cy, sy, ct, st = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
    return (cy * ct, sy * ct, -st), (-sy, cy, 0.0), (cy * st, sy * st, ct)
