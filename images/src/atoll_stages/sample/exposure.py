"""What a camera makes of the light: motion blur, lens, exposure, noise and eight bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll_stages.sample.camera import Array

GAMMA = 1 / 2.2


@dataclass(frozen=True)
class Exposure:
    """`blur` is how far the picture moves meanwhile, in pixels to the right and down; `noise` is a share of white."""

    gain: float
    blur: tuple[float, float]
    noise: float
    vignette: float


def random_exposure(random: np.random.Generator, width: int) -> Exposure:
    """Mostly sharp pictures; one in four is blurred by a turn of the robot."""
    across, down = random.uniform(-1, 1) * width / 40, random.uniform(-1, 1) * width / 120
    if random.random() > 0.25:
        across, down = across / 8, down / 8
    gain = float(2 ** random.uniform(-0.7, 0.6))
    return Exposure(gain, (across, down), float(random.uniform(0.008, 0.03)), float(random.uniform(0.1, 0.4)))


def develop(light: Array, exposure: Exposure, random: np.random.Generator) -> NDArray[np.uint8]:
    """The picture in eight bits for each channel."""
    seen = _softened(_moved(light, exposure.blur)) * np.float32(exposure.gain)
    rows, columns, _ = seen.shape
    y, x = np.linspace(-1, 1, rows, dtype=np.float32), np.linspace(-1, 1, columns, dtype=np.float32)
    seen = seen * (1 - exposure.vignette * (x[None, :] ** 2 + y[:, None] ** 2) / 2)[..., None]
    bright = np.clip(seen, 0, 1) ** np.float32(GAMMA)
    bright = bright + exposure.noise * random.standard_normal(bright.shape, np.float32)
    return (np.clip(bright, 0, 1) * 255 + 0.5).astype(np.uint8)


def _moved(light: Array, blur: tuple[float, float]) -> Array:
    """The mean of the picture at moments along its way, whose middle is where it stands."""
    count = round(max(abs(blur[0]), abs(blur[1]))) + 1
    if count == 1:
        return light
    offsets = [(round(blur[0] * t), round(blur[1] * t)) for t in np.linspace(-0.5, 0.5, count)]
    margin = max(max(abs(a), abs(b)) for a, b in offsets)
    padded = np.pad(light, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    rows, columns, _ = light.shape
    total = np.zeros_like(light)
    for across, down in offsets:
        total += padded[margin - down : margin - down + rows, margin - across : margin - across + columns]
    return total / np.float32(count)


def _softened(light: Array) -> Array:
    """A lens spreads a point over its neighbours (1-2-1 each way)."""
    padded = np.pad(light, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    soft: Array = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return soft
