"""Draws a scene: the picture, and the box of what is visible of each game piece.

Solids are drawn at `FINE` × `FINE` points of each pixel, so that edges are smooth and boxes exact. Every point belongs
to the nearest solid: a piece that another thing hides has fewer points, and a box around those alone.

A piece has a box if at least `MIN_VISIBLE` of its outline is in the picture and in front, and if the box has at least
`MIN_SIDE` pixels each way. Less than that nobody would label, and nothing can be learned from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll_stages.sample.backdrop import backdrop
from atoll_stages.sample.camera import Array, Camera
from atoll_stages.sample.scene import Scene
from atoll_stages.sample.solids import Solid

FINE = 2
MIN_VISIBLE = 0.25
MIN_SIDE = 4
# How far beyond the picture's edge, in its widths or heights, an outline is followed, and by how many rays each way.
BEYOND, SAMPLES = 2, 40


@dataclass(frozen=True)
class VisibleBox:
    """Whole pixels; `right` and `bottom` are the first ones outside."""

    kind: str
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Rendering:
    """`colour` is linear light, [row, column, channel]. `owner` is the number of the solid at each fine point, -1 for
    none."""

    colour: Array
    boxes: tuple[VisibleBox, ...]
    owner: NDArray[np.int16]


def render(scene: Scene, camera: Camera) -> Rendering:
    behind = backdrop(scene, camera)
    shape = (camera.height * FINE, camera.width * FINE)
    depth = np.repeat(np.repeat(behind.depth, FINE, axis=0), FINE, axis=1)
    owner = np.full(shape, -1, np.int16)
    colour = np.zeros((*shape, 3), np.float32)
    # How many points each solid would have if it stood alone, beyond the picture's edge too.
    whole = [_draw(solid, number, scene, camera, (depth, owner, colour)) for number, solid in enumerate(scene.solids)]
    seen = (owner >= 0).astype(np.float32)
    shown = _mean(colour) + behind.colour * (1 - _mean(seen[..., None]))
    return Rendering(shown, tuple(_boxes(scene, owner, whole)), owner)


def _draw(
    solid: Solid, number: int, scene: Scene, camera: Camera, planes: tuple[Array, NDArray[np.int16], Array]
) -> float:
    """Draw a solid where it is nearest; returns the points of its outline, inside the picture and beyond."""
    window = camera.window(solid.centre, solid.reach)
    if window is None:
        return 0.0
    depth, owner, colour = planes
    left, top, right, bottom = (FINE * edge for edge in window)
    x = (np.arange(left, right, dtype=np.float32) + 0.5) / FINE
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5) / FINE
    columns, rows = (part.ravel() for part in np.meshgrid(x, y))
    dx, dy, dz = camera.directions(columns, rows)
    along = solid.hits(camera.position, (dx, dy, dz))
    area = (slice(top, bottom), slice(left, right))
    points = int(np.count_nonzero(np.isfinite(along)))
    nearer = np.flatnonzero(along < depth[area].ravel())
    if nearer.size:
        px, py, pz = (
            np.float32(start) + along[nearer] * d[nearer]
            for start, d in zip(camera.position, (dx, dy, dz), strict=True)
        )
        row, column = top + nearer // (right - left), left + nearer % (right - left)
        depth[row, column] = along[nearer]
        owner[row, column] = number
        colour[row, column] = _shaded(solid, scene, camera, (px, py, pz))
    return _outline(solid, camera, window, points)


def _outline(solid: Solid, camera: Camera, window: tuple[int, int, int, int], inside: int) -> float:
    """The fine points of the whole outline, of which `inside` were found in the picture."""
    if window[0] and window[1] and window[2] < camera.width and window[3] < camera.height:
        return float(inside)
    full = camera.window(solid.centre, solid.reach, margin=BEYOND)
    assert full is not None
    left, top, right, bottom = full
    step = max(1, (right - left) // SAMPLES, (bottom - top) // SAMPLES)
    x = np.arange(left + step / 2, right, step, dtype=np.float32)
    y = np.arange(top + step / 2, bottom, step, dtype=np.float32)
    columns, rows = (part.ravel() for part in np.meshgrid(x, y))
    along = solid.hits(camera.position, camera.directions(columns, rows))
    return float(max(inside, int(np.count_nonzero(np.isfinite(along))) * (step * FINE) ** 2))


def _shaded(solid: Solid, scene: Scene, camera: Camera, at: tuple[Array, Array, Array]) -> Array:
    """The light that points of the surface send to the camera."""
    nx, ny, nz = solid.normals(*at)
    tx, ty, tz = scene.light.towards
    lamp = np.maximum(nx * tx + ny * ty + nz * tz, 0)
    # Light from all sides: less from below, and less close to the floor.
    room = (0.6 + 0.4 * nz) * np.clip(0.45 + at[2] / 0.15, 0, 1)
    if solid.hollow:
        x, y, _ = solid.local(*at)
        inside = x * x + y * y < solid.hollow**2
        lamp, room = np.where(inside, 0.15 * lamp, lamp), np.where(inside, 0.35 * room, room)
    gloss = solid.gloss * _mirrored(scene, camera, at, (nx, ny, nz)) ** 24
    lamp_colour, room_colour = np.array(scene.light.lamp, np.float32), np.array(scene.light.room, np.float32)
    light = lamp[:, None] * lamp_colour + room[:, None] * room_colour
    shown: Array = light * np.array(solid.colour, np.float32) + gloss[:, None] * lamp_colour
    return shown


def _mirrored(
    scene: Scene, camera: Camera, at: tuple[Array, Array, Array], normals: tuple[Array, Array, Array]
) -> Array:
    """How near the lamp's mirror image is to the camera, 0 to 1 (Blinn's half vector)."""
    to_camera = [np.float32(c) - p for c, p in zip(camera.position, at, strict=True)]
    length = np.sqrt(sum(part * part for part in to_camera))
    half = [part / length + np.float32(t) for part, t in zip(to_camera, scene.light.towards, strict=True)]
    size = np.sqrt(sum(part * part for part in half)) + np.float32(1e-6)
    cosine = sum(n * h for n, h in zip(normals, half, strict=True)) / size
    mirrored: Array = np.clip(cosine, 0, 1)
    return mirrored


def _mean(fine: Array) -> Array:
    """The mean of the fine points of each pixel."""
    parts = [fine[row::FINE, column::FINE] for row in range(FINE) for column in range(FINE)]
    total: Array = sum(parts[1:], parts[0]) / np.float32(FINE * FINE)
    return total


def _boxes(scene: Scene, owner: NDArray[np.int16], whole: list[float]) -> list[VisibleBox]:
    found = []
    for number, solid in enumerate(scene.solids):
        if not solid.kind or not whole[number]:
            continue
        rows, columns = np.nonzero(owner == number)
        if rows.size < MIN_VISIBLE * whole[number] or not rows.size:
            continue
        left, right = int(columns.min()) // FINE, -(-int(columns.max() + 1) // FINE)
        top, bottom = int(rows.min()) // FINE, -(-int(rows.max() + 1) // FINE)
        if min(right - left, bottom - top) >= MIN_SIDE:
            found.append(VisibleBox(solid.kind, left, top, right, bottom))
    return found
