"""What stands on the field: game pieces, things that merely look like them, robots, marks, and the light.

Everything is drawn from one random generator, so that a seed stands for a scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from atoll_stages.sample.camera import Camera
from atoll_stages.sample.solids import Colour, Solid, block, cone, sphere, torus, tube, turned

CLASSES = ("ring", "ball", "pipe")
LENGTH, WIDTH = 9.0, 6.0
WALL_HEIGHT = 0.5
# How near the camera and how far from it pieces of a single picture are put, in metres.
NEAREST, FARTHEST = 0.6, 3.3
ROBOT_DISTANCE = 1.5
GAP = 0.06
FROM_WALL = 0.2
TRIES = 60

RING: Colour = (0.95, 0.36, 0.07)
BALL: Colour = (0.10, 0.58, 0.50)
PIPE: Colour = (0.42, 0.20, 0.62)

PickLocation = Callable[[np.random.Generator], tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A flat ring or disc: of tape on the carpet (`wall` is None), or a sticker on the wall of that number."""

    centre: tuple[float, float]
    inner: float
    outer: float
    colour: Colour
    wall: int | None = None


@dataclass(frozen=True)
class Light:
    """`towards` points to the lamp. The colours of lamp and room are factors."""

    towards: tuple[float, float, float]
    lamp: Colour
    room: Colour


@dataclass(frozen=True)
class Scene:
    light: Light
    carpet: Colour
    wall: Colour
    # Chooses the texture of carpet and stands.
    texture: int
    solids: tuple[Solid, ...] = ()
    marks: tuple[Mark, ...] = field(default=())


def piece(kind: str, x: float, y: float, random: np.random.Generator) -> Solid:
    """A game piece that rests on the floor in one of the ways in which it can."""
    yaw, worn = random.uniform(0, 2 * math.pi), random.uniform(0.85, 1.1)
    if kind == "ring":
        leans = random.random() < 0.25
        tilt = random.uniform(0.9, 1.45) if leans else random.uniform(0, 0.06)
        radius, body = 0.155, 0.025
        height = body + radius * math.sin(tilt)
        return Solid(torus(radius, body), (x, y, height), turned(yaw, tilt), 0.19, _scaled(RING, worn), kind, 0.05)
    if kind == "ball":
        radius = 0.12
        return Solid(sphere(radius), (x, y, radius), turned(yaw), radius + 0.01, _scaled(BALL, worn), kind, 0.25)
    stands = random.random() < 0.3
    radius, length = 0.057, 0.30
    height, tilt = (length / 2, 0.0) if stands else (radius, math.pi / 2)
    shape = tube(radius, 0.008, length)
    return Solid(shape, (x, y, height), turned(yaw, tilt), 0.17, _scaled(PIPE, worn), kind, 0.15, hollow=radius - 0.009)


def lookalike(x: float, y: float, random: np.random.Generator) -> Solid:
    """Something in a piece's colour that is none."""
    yaw, worn = random.uniform(0, 2 * math.pi), random.uniform(0.85, 1.1)
    # As many in each piece's colour.
    kind = random.integers(6)
    if kind < 2:
        return Solid(cone(0.13, 0.32), (x, y, 0.16), turned(yaw), 0.24, _scaled(RING, worn))
    if kind < 4:
        return Solid(tube(0.13, 0.13, 0.22), (x, y, 0.11), turned(yaw), 0.19, _scaled(BALL, worn))
    if kind == 4:
        side = random.uniform(0.16, 0.3)
        shape = block(side, 0.7 * side, 0.6 * side)
        return Solid(shape, (x, y, 0.3 * side), turned(yaw), 0.8 * side, _scaled(PIPE, worn))
    return Solid(block(0.05, 0.05, 0.9), (x, y, 0.45), turned(yaw), 0.47, _scaled(PIPE, worn))


def robot(x: float, y: float, random: np.random.Generator) -> tuple[Solid, ...]:
    """A robot: bumpers in the colour of its alliance, a dark body, a mast."""
    turn = turned(random.uniform(0, 2 * math.pi))
    bumper = (0.72, 0.08, 0.10) if random.random() < 0.5 else (0.07, 0.16, 0.62)
    dark = _scaled((0.22, 0.22, 0.24), random.uniform(0.6, 1.6))
    height = random.uniform(0.25, 0.6)
    return (
        Solid(block(0.85, 0.85, 0.14), (x, y, 0.13), turn, 0.62, bumper),
        Solid(block(0.62, 0.62, height), (x, y, 0.1 + height / 2), turn, 0.75, dark, gloss=0.3),
        Solid(block(0.09, 0.30, 0.5), (x, y, 0.3 + height), turn, 0.45, (0.6, 0.6, 0.57)),
    )


def empty_field(random: np.random.Generator) -> Scene:
    """A field without anything on it, in one of the lights of a season."""
    elevation, azimuth = random.uniform(0.6, 1.25), random.uniform(0, 2 * math.pi)
    flat = math.cos(elevation)
    warm = random.uniform(-0.12, 0.12)
    lamp, room = random.uniform(0.5, 1.2), random.uniform(0.25, 0.5)
    colour = (1 + warm, 1.0, 1 - warm)
    light = Light(
        (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)),
        _scaled(colour, lamp),
        _scaled(colour, room),
    )
    grey = random.uniform(0.25, 0.5)
    carpet = tuple(grey * random.uniform(0.9, 1.1) for _ in range(3))
    wall = _scaled((0.75, 0.76, 0.80), random.uniform(0.6, 1.1))
    return Scene(light, carpet, wall, int(random.integers(1 << 30)))  # type: ignore[arg-type]


def marks(random: np.random.Generator, pick: PickLocation) -> tuple[Mark, ...]:
    """Rings and discs of tape on the carpet, stickers on the walls."""
    colours = (RING, BALL, PIPE, (0.75, 0.1, 0.12), (0.08, 0.2, 0.7))
    found = []
    for _ in range(random.integers(0, 4)):
        outer = random.uniform(0.1, 0.3)
        colour = colours[random.integers(len(colours))]
        found.append(Mark(pick(random), outer * random.choice([0.0, 0.6, 0.75]), outer, colour))
    for wall in range(4):
        for _ in range(random.integers(0, 3)):
            along = random.uniform(0.3, (WIDTH if wall < 2 else LENGTH) - 0.3)
            outer = random.uniform(0.08, 0.17)
            colour = colours[random.integers(len(colours))]
            found.append(Mark((along, 0.27), outer * random.choice([0.0, 0.7]), outer, colour, wall))
    return tuple(found)


def furnish(
    random: np.random.Generator,
    pick: PickLocation,
    counts: tuple[int, int, int],
    *,
    avoid: tuple[float, float] | None = None,
) -> list[Solid]:
    """As many pieces, look-alikes and robots as `counts` says, that stand in nobody's way.

    Robots keep away from the camera at `avoid`. What finds no place is left out.
    """
    solids: list[Solid] = []
    pieces, others, robots = counts
    for _ in range(robots):
        spot = _free(solids, 0.62, pick, random)
        if spot is not None and (avoid is None or math.dist(spot, avoid) > ROBOT_DISTANCE):
            solids += robot(*spot, random)
    for number in range(pieces + others):
        # A third lies beside another thing and may be hidden by it or hide it.
        beside = solids[random.integers(len(solids))] if solids and random.random() < 0.35 else None
        spot = _free(solids, 0.16, _near(beside) if beside else pick, random)
        if spot is None:
            continue
        if number < pieces:
            solids.append(piece(CLASSES[random.integers(len(CLASSES))], *spot, random))
        else:
            solids.append(lookalike(*spot, random))
    return solids


def in_view(camera: Camera) -> PickLocation:
    """Places on the floor that the camera sees; near ones as often as far ones in the picture."""
    half = math.atan(0.5 / camera.focal)

    def pick(random: np.random.Generator) -> tuple[float, float]:
        away = NEAREST * (FARTHEST / NEAREST) ** random.random()
        angle = camera.yaw + random.uniform(-half, half)
        return _on_field(camera.position[0] + away * math.cos(angle), camera.position[1] + away * math.sin(angle))

    return pick


def _near(other: Solid) -> PickLocation:
    def pick(random: np.random.Generator) -> tuple[float, float]:
        angle, away = random.uniform(0, 2 * math.pi), other.reach + random.uniform(0.1, 0.35)
        return _on_field(other.centre[0] + away * math.cos(angle), other.centre[1] + away * math.sin(angle))

    return pick


def _on_field(x: float, y: float) -> tuple[float, float]:
    """The nearest place that is not too close to a wall."""
    return min(max(x, FROM_WALL), LENGTH - FROM_WALL), min(max(y, FROM_WALL), WIDTH - FROM_WALL)


def _free(
    solids: Sequence[Solid], reach: float, pick: PickLocation, random: np.random.Generator
) -> tuple[float, float] | None:
    """A place where nothing else stands; None if none is found."""
    for _ in range(TRIES):
        x, y = pick(random)
        if all(math.hypot(x - s.centre[0], y - s.centre[1]) > reach + s.reach + GAP for s in solids):
            return x, y
    return None


def _scaled(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
