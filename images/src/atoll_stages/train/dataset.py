"""Random access to the TFRecord shards that convert wrote.

A batch is a pure function of the step number, so records must be reachable in any order: the shards are scanned once
for offsets, and a record is read with one `pread`. Memory stays flat however large the dataset is.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.errors import IntegrityError
from atoll_stages.convert.tfrecord import decode_example

if TYPE_CHECKING:
    from types import TracebackType


# TFRecord framing: length (uint64), crc of it (uint32), data, crc of the data (uint32); little endian.
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4


@dataclass(frozen=True)
class Location:
    """Where a record's data lies."""

    shard: int
    offset: int
    length: int


@dataclass(frozen=True)
class Example:
    """One labelled picture. `boxes` float32 (objects, 4) as ymin, xmin, ymax, xmax relative; `labels` from 0."""

    name: str
    encoded: bytes
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray


def scan(path: Path, *, shard: int) -> Iterator[Location]:
    """The records of a shard, by their framing alone.

    Raises:
        IntegrityError: the file ends inside a record.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < size:
            header = file.read(_HEADER.size)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            end = offset + _HEADER.size + length + _FOOTER_BYTES
            if end > size:
                raise IntegrityError(f"{path.name} ends inside the record at byte {offset} (size {size})")
            yield Location(shard, offset + _HEADER.size, length)
            offset = end
            file.seek(offset)


def parse(data: bytes) -> Example:
    """An example with the keys of the TF object detection API; class labels there count from 1.

    Raises:
        IntegrityError: the record is no tf.train.Example or lacks a key.
    """
    try:
        features = decode_example(data)
    except ValueError as error:
        raise IntegrityError(f"a record of {len(data)} bytes is no tf.train.Example: {error}") from None
    edges = [features.get(f"image/object/bbox/{axis}", []) for axis in ("ymin", "xmin", "ymax", "xmax")]
    labels = np.array(features.get("image/object/class/label", []), np.int32) - 1
    encoded, name = features.get("image/encoded"), features.get("image/filename")
    width, height = features.get("image/width"), features.get("image/height")
    if not (encoded and name and width and height) or any(len(edge) != len(labels) for edge in edges):
        raise IntegrityError("a record lacks the picture, its name or its size, or has boxes without labels")
    return Example(
        name=name[0].decode(errors="replace"),
        encoded=encoded[0],
        width=width[0],
        height=height[0],
        boxes=np.array(edges, np.float32).T.reshape(-1, 4),
        labels=labels,
    )


class Records(Sequence[Example]):
    """The examples of some shards, in order. Close it, or use it as a context manager."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [os.open(path, os.O_RDONLY) for path in paths]
        self._locations = [loc for i, path in enumerate(paths) for loc in scan(path, shard=i)]

    def __len__(self) -> int:
        return len(self._locations)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        location = self._locations[index]
        return parse(os.pread(self._files[location.shard], location.length, location.offset))

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# A canvas is larger than the input, so that zooming in (augment.py) still finds detail.
CANVAS_RATIO = 1.5
CACHE_BYTES = 1 << 30
DECODE_THREADS = 4
PADDING = -1


@dataclass(frozen=True)
class Batch:
    """`canvases` uint8 (batch, side, side, 3); `boxes` float32 (batch, objects, 4); `labels` int32 (batch, objects)."""

    canvases: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def order(*, seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of the pictures in an epoch: the same for the same arguments on every machine."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def indices(step: int, *, batch: int, count: int, seed: int) -> np.ndarray:
    """The pictures of a step. Every picture comes once in an epoch; a batch may span two epochs."""
    epoch_order = lru_cache(maxsize=None)(lambda epoch: order(seed=seed, epoch=epoch, count=count))
    positions = range(step * batch, (step + 1) * batch)
    return np.array([epoch_order(p // count)[p % count] for p in positions], np.int64)


def canvas_side(side: int, *, count: int, budget: int = CACHE_BYTES) -> int:
    """The side to decode to: larger than the input, unless only the input's own size fits the memory."""
    large = int(side * CANVAS_RATIO)
    return large if count * large * large * 3 <= budget or count * side * side * 3 > budget else side


class Pictures:
    """The training pictures of a dataset, at one canvas size."""

    def __init__(
        self, examples: Sequence[Example], *, side: int, batch: int, seed: int, budget: int = CACHE_BYTES
    ) -> None:
        self._examples = examples
        self._side = side
        self._batch = batch
        self._seed = seed
        self._pool = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
        count = len(examples)
        self._objects = [(e.boxes, e.labels) for e in examples]
        self.most_objects = max((len(labels) for _, labels in self._objects), default=0) or 1
        self._cache: np.ndarray | None = None
        if count * side * side * 3 <= budget:
            self._cache = np.empty((count, side, side, 3), np.uint8)
            for i, canvas in enumerate(self._pool.map(self._decode, range(count))):
                self._cache[i] = canvas

    def __len__(self) -> int:
        return len(self._examples)

    def _decode(self, index: int) -> np.ndarray:
        return preprocess.decode(self._examples[index].encoded, self._side)

    def _canvases(self, chosen: np.ndarray) -> np.ndarray:
        if self._cache is not None:
            cached: np.ndarray = self._cache[chosen]
            return cached
        return np.stack(list(self._pool.map(self._decode, chosen.tolist())))

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0), boxes padded with label -1."""
        chosen = indices(step, batch=self._batch, count=len(self), seed=self._seed)
        boxes = np.zeros((self._batch, self.most_objects, 4), np.float32)
        labels = np.full((self._batch, self.most_objects), PADDING, np.int32)
        for row, index in enumerate(chosen):
            found, classes = self._objects[index]
            boxes[row, : len(classes)], labels[row, : len(classes)] = found, classes
        return Batch(self._canvases(chosen), boxes, labels)

    def close(self) -> None:
        self._pool.shutdown()
