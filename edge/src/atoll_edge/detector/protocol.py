"""The messages between the agent and a detector worker, which travel over a socket.

The agent sends `Load` and `Detect`; the worker answers each with the same `id`. Both share a
memory map for the pixels: RGB rows without padding. The messages of each frame are packed, the others are JSON.
"""

import json
import struct
from array import array
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

# The environment variable of a worker that has one of several accelerators: its number, from 0.
ACCELERATOR = "ATOLL_EDGE_ACCELERATOR"
# Room for the largest image: pages that are never written take no memory.
PIXEL_BYTES = 48 * 2**20


@dataclass(frozen=True)
class Load:
    """Requests that a model be loaded; `tiling`: rows, columns and overlap of the parts to show it of each image;
    `resize`: a word of `atoll_contract.images.Resize`; `side`: the input's, where a manifest states it; `head`: the
    release's `detector.json`, where a backend needs it."""

    id: int
    path: str
    threads: int
    tiling: tuple[int, int, float] | None = None
    resize: str = "squash"
    side: int | None = None
    head: str | None = None


@dataclass(frozen=True)
class Detect:
    """Requests the detections in the image in the memory map, of `width` × `height` × 3 bytes."""

    id: int
    width: int
    height: int


@dataclass(frozen=True)
class Loaded:
    """The model of the Load `id` is active from now on; its input is `width` × `height` pixels."""

    id: int
    width: int
    height: int


@dataclass(frozen=True)
class Refused:
    """The model of the Load `id` cannot be used; `missing`: because the device does not answer."""

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
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Load, Loaded, Refused)}

# The first byte tells which message follows; JSON begins with `[`.
_DETECT, _DETECTED = b"?", b"!"
_REQUEST = struct.Struct("=cqii")
_ANSWER = struct.Struct("=cqqid")
ROW_LENGTH = 6


def send(connection: "Connection[Any, Any]", message: Message) -> None:
    connection.send_bytes(_packed(message))


def receive(connection: "Connection[Any, Any]") -> Message:
    """Returns the next message. Raises EOFError if the other side is gone."""
    data = connection.recv_bytes()
    tag = data[:1]
    if tag == _DETECT:
        _, number, width, height = _REQUEST.unpack(data)
        return Detect(number, width, height)
    if tag == _DETECTED:
        _, number, model, non_finite, seconds = _ANSWER.unpack_from(data)
        flat = array("d", data[_ANSWER.size :]).tolist()
        rows = [flat[start : start + ROW_LENGTH] for start in range(0, len(flat), ROW_LENGTH)]
        return Detected(number, model, rows, non_finite, seconds)
    kind, fields = json.loads(data)
    message: Message = _KINDS[kind](**fields)
    return message


def _packed(message: Message) -> bytes:
    if isinstance(message, Detect):
        return _REQUEST.pack(_DETECT, message.id, message.width, message.height)
    if isinstance(message, Detected):
        head = _ANSWER.pack(_DETECTED, message.id, message.model, message.non_finite, message.seconds)
        return head + array("d", [value for row in message.rows for value in row]).tobytes()
    return json.dumps([type(message).__name__, vars(message)]).encode()
