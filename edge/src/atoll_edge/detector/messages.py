"""What the agent and the detector child say to each other: JSON documents over a socket, pixels in shared memory.

The agent asks `Load` and `Detect`; the child answers each with the same `id`. Pixels lie in a memory map that both
hold, as RGB rows without padding.
"""

import json
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

# Pages that are never written take no memory, so the map is made for the largest picture.
PIXEL_BYTES = 48 * 2**20


@dataclass(frozen=True)
class Load:
    id: int
    path: str
    threads: int


@dataclass(frozen=True)
class Detect:
    """`width` × `height` × 3 bytes lie in the map."""

    id: int
    width: int
    height: int


@dataclass(frozen=True)
class Loaded:
    """The model of `Load` `id` serves from now on; it takes pictures of `width` × `height`."""

    id: int
    width: int
    height: int


@dataclass(frozen=True)
class Refused:
    """The model of `Load` `id` cannot be used; `missing` where the device does not answer."""

    id: int
    error: str
    missing: bool


@dataclass(frozen=True)
class Detected:
    """`rows` are [class id, score, ymin, xmin, ymax, xmax]; `model` is the id of the Load that found them."""

    id: int
    model: int
    rows: list[list[float]]
    non_finite: int
    seconds: float


Message = Load | Detect | Loaded | Refused | Detected
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Load, Detect, Loaded, Refused, Detected)}


def send(connection: "Connection[Any, Any]", message: Message) -> None:
    connection.send_bytes(json.dumps([type(message).__name__, asdict(message)]).encode())


def receive(connection: "Connection[Any, Any]") -> Message:
    """The next message. Raises EOFError where the other side is gone."""
    kind, fields = json.loads(connection.recv_bytes())
    message: Message = _KINDS[kind](**fields)
    return message
