"""A pinhole camera above a floor: the ray of each pixel, and where points appear.

World coordinates are metres; z is up and the floor is z = 0. Pictures are indexed as [row, column].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
NEAR = 0.05


@dataclass(frozen=True)
class Camera:
    """Where the camera is and looks. Angles are in radians: `yaw` from x to y, `pitch` downwards, `roll` clockwise.

    `focal` is the focal length in widths of the picture.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    focal: float
    width: int
    height: int

    @cached_property
    def axes(self) -> tuple[Array, Array, Array]:
        """Unit vectors to the right, up and forward."""
        cos_yaw, sin_yaw = math.cos(self.yaw), math.sin(self.yaw)
        cos_pitch, sin_pitch = math.cos(self.pitch), math.sin(self.pitch)
        forward = np.array([cos_yaw * cos_pitch, sin_yaw * cos_pitch, -sin_pitch], np.float32)
        level = np.array([sin_yaw, -cos_yaw, 0.0], np.float32)
        upright = np.cross(level, forward).astype(np.float32)
        right = math.cos(self.roll) * level - math.sin(self.roll) * upright
        up = math.sin(self.roll) * level + math.cos(self.roll) * upright
        return right.astype(np.float32), up.astype(np.float32), forward

    def directions(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Unit vectors from the camera through points of the picture, given in pixels from its top left corner."""
        right, up, forward = self.axes
        pixels = self.focal * self.width
        across = (x - self.width / 2) / pixels
        upwards = (self.height / 2 - y) / pixels
        length = np.sqrt(1 + across**2 + upwards**2)
        dx, dy, dz = (
            (forward[axis] + across * right[axis] + upwards * up[axis]).astype(np.float32) / length for axis in range(3)
        )
        return dx, dy, dz

    def all_directions(self) -> tuple[Array, Array, Array]:
        """The directions through the centres of all pixels."""
        x = np.arange(self.width, dtype=np.float32) + 0.5
        y = np.arange(self.height, dtype=np.float32) + 0.5
        columns, rows = np.meshgrid(x, y)
        return self.directions(columns, rows)

    def window(
        self, centre: tuple[float, float, float], radius: float, *, margin: int = 0
    ) -> tuple[int, int, int, int] | None:
        """The pixels (left, top, right, bottom) that a sphere may touch; None for a sphere out of the picture.

        `margin` adds so many widths and heights around the picture.
        """
        right, up, forward = self.axes
        offset = np.array(centre, np.float32) - np.array(self.position, np.float32)
        depth = float(offset @ forward)
        if depth + radius < NEAR:
            return None
        nearest = depth - radius
        if nearest < NEAR:
            return (
                -margin * self.width,
                -margin * self.height,
                (1 + margin) * self.width,
                (1 + margin) * self.height,
            )
        pixels = self.focal * self.width
        spans = []
        for along, size, sign in ((float(offset @ right), self.width, 1.0), (float(offset @ up), self.height, -1.0)):
            # The corners of the cube around the sphere, at its nearest and its farthest depth.
            ends = [
                sign * (along + side) / far * pixels + size / 2
                for side in (-radius, radius)
                for far in (nearest, depth + radius)
            ]
            spans.append((max(-margin * size, math.floor(min(ends))), min((1 + margin) * size, math.ceil(max(ends)))))
        (left, end), (top, bottom) = spans
        return (left, top, end, bottom) if left < end and top < bottom else None
