"""Labelled pictures: independent ones, and films of a camera that drives around a field.

Each picture depends on the seed and its own number alone: pictures can be drawn in any order, and by several processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from atoll_stages.sample.camera import Camera
from atoll_stages.sample.exposure import Exposure, develop, random_exposure
from atoll_stages.sample.render import VisibleBox, render
from atoll_stages.sample.scene import LENGTH, WIDTH, Scene, empty_field, furnish, in_view, marks

RATE = 10
# A shutter is open for this share of the time between two frames.
SHUTTER = 0.35
# Of the pictures so many show no game piece.
EMPTY = 0.06
# What makes the random numbers of pictures and of the films different ones.
_STILL, _VIDEOS = 0, {"camera": 1, "match": 2}
VIDEOS = tuple(_VIDEOS)


@dataclass(frozen=True)
class LabelledImage:
    """Red, green and blue, and the boxes of the game pieces."""

    pixels: NDArray[np.uint8]
    boxes: tuple[VisibleBox, ...]


def still(seed: int, number: int, size: tuple[int, int]) -> LabelledImage:
    """A picture of a field of its own."""
    random = np.random.default_rng([seed, _STILL, number])
    x, y = random.uniform(0.4, LENGTH - 0.4), random.uniform(0.4, WIDTH - 0.4)
    # Towards the middle of the field, give or take; a wall right in front hides nothing but shows nothing.
    yaw = math.atan2(WIDTH / 2 - y, LENGTH / 2 - x) + random.normal(0, 0.7)
    camera = Camera(
        position=(x, y, random.uniform(0.35, 0.95)),
        yaw=yaw,
        pitch=random.uniform(0.12, 0.5),
        roll=random.normal(0, 0.03),
        focal=random.uniform(0.75, 1.05),
        width=size[0],
        height=size[1],
    )
    pick = in_view(camera)
    pieces = 0 if random.random() < EMPTY else int(random.integers(2, 10))
    counts = (pieces, int(random.integers(0, 5)), int(random.random() < 0.4))
    scene = replace(empty_field(random), marks=marks(random, pick))
    solids = furnish(random, pick, counts, avoid=camera.position[:2])
    return _taken(replace(scene, solids=tuple(solids)), camera, random_exposure(random, size[0]), random)


def frame(seed: int, video: str, number: int, size: tuple[int, int]) -> LabelledImage:
    """A frame of a film; `video` is one of `VIDEOS`. They show two fields in two lights."""
    drive = _drive(seed, video)
    seconds = number / RATE
    camera, later = drive.camera(seconds, size), drive.camera(seconds + SHUTTER / RATE, size)
    across = (later.yaw - camera.yaw) * camera.focal * camera.width
    exposure = replace(drive.exposure, blur=(across, 0.0))
    return _taken(drive.scene, camera, exposure, np.random.default_rng([seed, _VIDEOS[video], number + 1]))


@dataclass(frozen=True)
class _Drive:
    """A way around a field along its walls, past things that lie further inside."""

    scene: Scene
    exposure: Exposure
    start: float
    height: float

    def camera(self, seconds: float, size: tuple[int, int]) -> Camera:
        angle = self.start + 0.22 * seconds + 0.1 * math.sin(0.9 * seconds)
        x = LENGTH / 2 + (LENGTH / 2 - 0.6) * math.cos(angle)
        y = WIDTH / 2 + (WIDTH / 2 - 0.6) * math.sin(angle)
        # Into the field, and from side to side.
        yaw = angle + 0.8 * math.pi + 0.55 * math.sin(0.7 * seconds)
        pitch = 0.33 + 0.06 * math.sin(1.7 * seconds)
        return Camera((x, y, self.height), yaw, pitch, 0.015 * math.sin(3 * seconds), 0.85, *size)


@lru_cache(maxsize=4)
def _drive(seed: int, video: str) -> _Drive:
    random = np.random.default_rng([seed, _VIDEOS[video], 0])
    scene = replace(empty_field(random), marks=marks(random, _inside))
    solids = furnish(random, _inside, (18, 6, 3 if video == "match" else 1))
    exposure = random_exposure(random, width=1)
    start, height = random.uniform(0, 2 * math.pi), random.uniform(0.5, 0.8)
    return _Drive(replace(scene, solids=tuple(solids)), exposure, start, height)


def _inside(random: np.random.Generator) -> tuple[float, float]:
    """A place at some distance from the way of the camera."""
    while True:
        x, y = random.uniform(0, LENGTH), random.uniform(0, WIDTH)
        if ((x - LENGTH / 2) / (LENGTH / 2 - 1.4)) ** 2 + ((y - WIDTH / 2) / (WIDTH / 2 - 1.4)) ** 2 < 1:
            return x, y


def _taken(scene: Scene, camera: Camera, exposure: Exposure, random: np.random.Generator) -> LabelledImage:
    rendering = render(scene, camera)
    return LabelledImage(develop(rendering.colour, exposure, random), rendering.boxes)
