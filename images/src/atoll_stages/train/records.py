"""Random access to the TFRecord shards that convert wrote.

A batch is a pure function of the step number, so records must be reachable in any order: the shards are scanned once
for offsets, and a record is read with one `pread`. Memory stays flat however large the dataset is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
