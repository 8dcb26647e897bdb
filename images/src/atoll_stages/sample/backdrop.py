"""What is behind all solids: carpet with lines, marks and shadows, the walls around the field, and the stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll_stages.sample.camera import Array, Camera
from atoll_stages.sample.scene import LENGTH, WALL_HEIGHT, WIDTH, Light, Mark, Scene
from atoll_stages.sample.solids import Colour, Solid

# Side of the square of noise that carpet and stands repeat, a power of two.
TILE = 256
LINE_WIDTH = 0.05
# Shadows: steps along each ray to the lamp, the shortest step in metres, and how sharp their edges are.
SHADOW_STEPS, SHADOW_START, LAMP_SHARPNESS = 20, 0.012, 9
# How far a solid darkens the carpet around its foot, in metres.
CONTACT = 0.05
RED, BLUE, WHITE = (0.62, 0.08, 0.10), (0.07, 0.14, 0.55), (0.85, 0.85, 0.85)
# The lines that cross the field: how far along it, and their colours.
LINES = ((1.5, RED), (LENGTH / 2, WHITE), (LENGTH - 1.5, BLUE))


@dataclass(frozen=True)
class Backdrop:
    """The colour of each pixel, and how far it is away along its ray."""

    colour: Array
    depth: Array


def backdrop(scene: Scene, camera: Camera) -> Backdrop:
    """Draw everything but the solids; they only throw their shadows."""
    dx, dy, dz = camera.all_directions()
    ox, oy, oz = (np.float32(value) for value in camera.position)
    noise = _noise(scene.texture)
    with np.errstate(divide="ignore"):
        floor = np.where(dz < 0, -oz / dz, np.inf).astype(np.float32)
        across = np.where(dx < 0, -ox / dx, (LENGTH - ox) / dx).astype(np.float32)
        along = np.where(dy < 0, -oy / dy, (WIDTH - oy) / dy).astype(np.float32)
    side = np.minimum(across, along)
    height = oz + side * dz
    colour = _stands(scene, noise, dx, dy, dz)
    depth = np.full(dx.shape, np.inf, np.float32)
    on_floor = floor < side
    on_wall = ~on_floor & (height < WALL_HEIGHT)
    away = floor[on_floor]
    colour[on_floor] = _floor(scene, noise, ox + away * dx[on_floor], oy + away * dy[on_floor], away)
    x, y = ox + side[on_wall] * dx[on_wall], oy + side[on_wall] * dy[on_wall]
    first = np.where(across[on_wall] < along[on_wall], np.where(dx[on_wall] < 0, 0, 1), np.where(dy[on_wall] < 0, 2, 3))
    colour[on_wall] = _wall(scene, first, np.where(first < 2, y, x), height[on_wall])
    depth[on_floor], depth[on_wall] = floor[on_floor], side[on_wall]
    return Backdrop(colour, depth)


def _noise(seed: int) -> Array:
    """Noise in [-1, 1] that repeats at its edges: fine grain on coarse spots."""
    random = np.random.default_rng(seed)
    grain = random.uniform(-1, 1, (TILE, TILE)).astype(np.float32)
    spots = random.uniform(-1, 1, (TILE // 16, TILE // 16)).astype(np.float32)
    return 0.55 * grain + 0.45 * np.kron(spots, np.ones((16, 16), np.float32))


def _sampled(noise: Array, x: Array, y: Array) -> Array:
    found: Array = noise[y.astype(np.int32) & (TILE - 1), x.astype(np.int32) & (TILE - 1)]
    return found


def _floor(scene: Scene, noise: Array, x: Array, y: Array, away: Array) -> Array:
    # Farther away than a few metres the grain of a carpet is finer than a pixel.
    grain = _sampled(noise, x * 160, y * 160) * np.clip(1.6 / away, 0.15, 1) * 0.16
    worn = _sampled(noise, x * 22, y * 22) * 0.07
    colour = _painted(scene.carpet, x.size) * (1 + grain + worn)[:, None]
    for at, tape in LINES:
        colour[np.abs(x - at) < LINE_WIDTH / 2] = tape
    for mark in scene.marks:
        if mark.wall is None:
            _stick(colour, mark, x, y)
    lit = np.clip(shade(scene.solids, scene.light, x, y), 0, 1)
    return _lit(colour, scene.light, scene.light.towards[2] * lit, 0.45 + 0.55 * _near_feet(scene.solids, x, y))


def _wall(scene: Scene, number: NDArray[np.int64], along: Array, height: Array) -> Array:
    colour = _painted(scene.wall, along.size)
    # A rail below and above, posts between the panels.
    colour[(height < 0.06) | (height > WALL_HEIGHT - 0.035) | (along % 1.2 < 0.04)] *= 0.45
    for mark in scene.marks:
        if mark.wall is not None:
            here = number == mark.wall
            part = colour[here]
            _stick(part, mark, along[here], height[here])
            colour[here] = part
    facing = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], np.float32)
    lamp = np.array([max(0.0, float(a @ np.array(scene.light.towards[:2]))) for a in facing], np.float32)
    return _lit(colour, scene.light, lamp[number], np.full(along.size, 0.85, np.float32))


def _stands(scene: Scene, noise: Array, dx: Array, dy: Array, dz: Array) -> Array:
    """People and banners, out of focus: patches by direction."""
    turn = np.arctan2(dy, dx)
    tint = 0.35 + 0.2 * _sampled(noise, turn * 90 + TILE, dz * 120 + TILE)
    rows = 0.75 + 0.25 * np.sin(dz * 60)
    banner = _sampled(noise, turn * 12 + TILE, np.zeros_like(turn)) * 0.25
    red, green, blue = tint * rows + banner, tint * rows, tint * rows - banner
    return np.stack([red, green, blue], axis=-1).astype(np.float32) * np.array(scene.light.room, np.float32)


def shade(solids: Sequence[Solid], light: Light, x: Array, y: Array) -> Array:
    """How much of the lamp's light reaches points of the floor, 0 to 1, with soft edges."""
    lit = np.ones_like(x)
    flat = np.hypot(light.towards[0], light.towards[1]) / light.towards[2]
    for solid in solids:
        cx, cy, cz = solid.centre
        # The shadow's middle lies on the other side than the lamp.
        mx = cx - light.towards[0] / light.towards[2] * cz
        my = cy - light.towards[1] / light.towards[2] * cz
        reach = (solid.reach * (1 + flat) + 0.15) ** 2
        near = np.flatnonzero((x - mx) ** 2 + (y - my) ** 2 < reach)
        if not near.size:
            continue
        px, py = x[near], y[near]
        lowest, along = np.ones_like(px), np.full_like(px, SHADOW_START)
        for _ in range(SHADOW_STEPS):
            tx, ty, tz = (along * np.float32(part) for part in light.towards)
            gap = solid.distance(px + tx, py + ty, tz)
            # A lamp has a size: what it shines past narrowly lies in half shadow.
            lowest = np.minimum(lowest, 0.5 + LAMP_SHARPNESS * gap / np.maximum(along, 0.25))
            along = along + np.maximum(gap, SHADOW_START)
        lit[near] = np.minimum(lit[near], np.clip(lowest, 0.0, 1.0))
    return lit


def _near_feet(solids: Sequence[Solid], x: Array, y: Array) -> Array:
    """How open the carpet lies to the light of the room, 0 to 1: less beside what stands on it."""
    openness = np.ones_like(x)
    for solid in solids:
        away = (x - solid.centre[0]) ** 2 + (y - solid.centre[1]) ** 2
        near = np.flatnonzero(away < (solid.reach + 3 * CONTACT) ** 2)
        if near.size:
            gap = solid.distance(x[near], y[near], np.zeros(near.size, np.float32))
            openness[near] *= 1 - 0.8 * np.exp(-np.maximum(gap, 0) / CONTACT)
    return openness


def _painted(colour: Colour, count: int) -> Array:
    return np.tile(np.array(colour, np.float32), (count, 1))


def _stick(colour: Array, mark: Mark, x: Array, y: Array) -> None:
    away = np.hypot(x - mark.centre[0], y - mark.centre[1])
    colour[(away < mark.outer) & (away >= mark.inner)] = mark.colour


def _lit(colour: Array, light: Light, lamp: Array, room: Array) -> Array:
    shine = lamp[:, None] * np.array(light.lamp, np.float32) + room[:, None] * np.array(light.room, np.float32)
    return (colour * shine).astype(np.float32)
