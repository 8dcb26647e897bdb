"""The messages between the agent and a detector worker, which travel over a socket.

The agent sends `Load` and `Detect`; the worker answers each with the same `id`. Both share a
memory map for the pixels: RGB rows without padding. The messages of each frame are packed, the others are JSON. In the
stream a message follows its length; one of no bytes only wakes the other side.
"""

import json
import select
import socket
import struct
from dataclasses import dataclass
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
    """`rows` are (class id, score, ymin, xmin, ymax, xmax); `model` is the id of the Load that found them."""

    id: int
    model: int
    rows: list[tuple[float, ...]]
    non_finite: int
    seconds: float


Message = Load | Detect | Loaded | Refused | Detected
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Load, Loaded, Refused)}

# The first byte tells which message follows; JSON begins with `[`.
_DETECT, _DETECTED = b"?", b"!"
_LENGTH = struct.Struct("=i")
_NO_BYTES = _LENGTH.pack(0)
_REQUEST = struct.Struct("=cqii")
_ANSWER = struct.Struct("=cqqid")
_ROW = struct.Struct("=6d")
# One read takes a whole message but for those of hundreds of detections.
_READ_BYTES = 64 * 1024


class Channel:
    """One end of the socket, given as its `handle`. One thread uses it; any thread may call `close`.

    `multiprocessing.connection` frames messages in the same way, but reads twice for each and makes a poller for each
    wait, which a small detector's frame feels.
    """

    def __init__(self, handle: int) -> None:
        self._socket = socket.socket(fileno=handle)
        self._read = b""
        self._poller = select.poll()
        self._poller.register(handle, select.POLLIN)

    def send(self, message: Message) -> None:
        """Raises OSError if the other side is gone."""
        packed = _packed(message)
        self._socket.sendall(_LENGTH.pack(len(packed)) + packed)

    def wake(self) -> None:
        """Wakes the other side for a message that follows soon. Raises OSError if it is gone."""
        self._socket.sendall(_NO_BYTES)

    def poll(self, wait_seconds: float) -> bool:
        """Returns whether a message, or the end of the stream, is there within this time."""
        return bool(self._read) or bool(self._poller.poll(wait_seconds * 1000))

    def receive(self) -> Message | None:
        """Waits for the next message; None only wakes this side. Raises EOFError if the other one is gone."""
        self._fill(_LENGTH.size)
        (length,) = _LENGTH.unpack_from(self._read)
        end = _LENGTH.size + length
        self._fill(end)
        data, self._read = self._read[_LENGTH.size : end], self._read[end:]
        return _unpacked(data) if data else None

    def close(self) -> None:
        self._socket.close()

    def _fill(self, size: int) -> None:
        while len(self._read) < size:
            more = self._socket.recv(_READ_BYTES)
            if not more:
                raise EOFError
            self._read += more


def _unpacked(data: bytes) -> Message:
    tag = data[:1]
    if tag == _DETECT:
        _, number, width, height = _REQUEST.unpack(data)
        return Detect(number, width, height)
    if tag == _DETECTED:
        _, number, model, non_finite, seconds = _ANSWER.unpack_from(data)
        return Detected(number, model, list(_ROW.iter_unpack(data[_ANSWER.size :])), non_finite, seconds)
    kind, fields = json.loads(data)
    message: Message = _KINDS[kind](**fields)
    return message


def _packed(message: Message) -> bytes:
    if isinstance(message, Detect):
        return _REQUEST.pack(_DETECT, message.id, message.width, message.height)
    if isinstance(message, Detected):
        head = _ANSWER.pack(_DETECTED, message.id, message.model, message.non_finite, message.seconds)
        return head + b"".join([_ROW.pack(*row) for row in message.rows])
    return json.dumps([type(message).__name__, vars(message)]).encode()
