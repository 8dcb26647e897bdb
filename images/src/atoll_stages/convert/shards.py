"""Writes a dataset: TFRecord shards with the keys of the TensorFlow Object Detection API, and a label map."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from atoll_contract.archive.limits import PIECE
from atoll_contract.dataset import LABEL_MAP_NAME
from atoll_contract.labelmap import format_label_map
from atoll_stages.convert.example_store import ExampleStore, StoredExample
from atoll_stages.convert.images import FORMAT
from atoll_stages.convert.tfrecord import bytes_feature, encode_example, float_feature, int64_feature, write_records

# Large enough to stream from a bucket, small enough to read several at once.
SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class WrittenFile:
    """A finished file on disk."""

    name: str
    path: Path
    sha256: str
    size: int


class _HashingFile:
    """A binary file that hashes what is written to it. Both happen in a thread, while the caller makes the next piece:
    `flush` waits for it, and raises its error."""

    def __init__(self, file: BinaryIO, thread: Executor) -> None:
        self._file, self._thread = file, thread
        self._hash = hashlib.sha256()
        self._piece: list[bytes] = []
        self._piece_size = 0
        self._before: Future[None] | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        self._piece.append(data)
        self._piece_size += len(data)
        self.size += len(data)
        if self._piece_size >= PIECE:
            self._put_piece()
        return len(data)

    def flush(self) -> None:
        self._put_piece()
        if self._before is not None:
            self._before.result()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _put_piece(self) -> None:
        if self._before is not None:
            self._before.result()
        self._before = self._thread.submit(self._put_bytes, self._piece)
        self._piece, self._piece_size = [], 0

    def _put_bytes(self, piece: list[bytes]) -> None:
        data = b"".join(piece)
        self._hash.update(data)
        self._file.write(data)


def write_shards(
    store: ExampleStore, split: str, folder: Path, *, classes: Sequence[str], sources: Sequence[str]
) -> Iterator[WrittenFile]:
    """Writes the records of a split, a shard at a time; the caller may remove each once it was yielded.

    `sources` are the archives' names; with several of them they lead a record's `image/source_id`.
    """
    ids = {name: number for number, name in enumerate(classes, start=1)}
    images, size = store.split_size(split)
    shards = max(1, math.ceil(size / SHARD_BYTES))
    examples = store.examples_of(split)
    for number in range(shards):
        count = images * (number + 1) // shards - images * number // shards
        path = folder / f"{split}-{number:05d}-of-{shards:05d}.tfrecord"
        with path.open("xb") as file, ThreadPoolExecutor(1) as thread:
            hashing = _HashingFile(file, thread)
            records = (
                encode_record(example, store.jpeg(example), ids=ids, sources=sources)
                for example in islice(examples, count)
            )
            write_records(cast(BinaryIO, hashing), records)
            hashing.flush()
        yield WrittenFile(path.name, path, hashing.hexdigest(), hashing.size)


def encode_record(example: StoredExample, jpeg: bytes, *, ids: Mapping[str, int], sources: Sequence[str]) -> bytes:
    """Returns an image and its boxes as a serialised `tf.train.Example`; labels count from 1, edges are 0…1."""
    boxes = [item.box for item in example.boxes]
    source_id = example.name if len(sources) == 1 else f"{sources[example.source]}: {example.name}"
    return encode_example(
        {
            "image/height": int64_feature([example.height]),
            "image/width": int64_feature([example.width]),
            "image/filename": bytes_feature(example.name.encode()),
            "image/source_id": bytes_feature(source_id.encode()),
            "image/key/sha256": bytes_feature(example.sha256.encode()),
            "image/encoded": bytes_feature(jpeg),
            "image/format": bytes_feature(FORMAT.encode()),
            "image/object/bbox/xmin": float_feature([box.xmin for box in boxes]),
            "image/object/bbox/xmax": float_feature([box.xmax for box in boxes]),
            "image/object/bbox/ymin": float_feature([box.ymin for box in boxes]),
            "image/object/bbox/ymax": float_feature([box.ymax for box in boxes]),
            "image/object/class/text": bytes_feature(*(item.label.encode() for item in example.boxes)),
            "image/object/class/label": int64_feature([ids[item.label] for item in example.boxes]),
        }
    )


def write_label_map(classes: Sequence[str], folder: Path) -> WrittenFile:
    data = format_label_map(classes).encode()
    path = folder / LABEL_MAP_NAME
    path.write_bytes(data)
    return WrittenFile(path.name, path, hashlib.sha256(data).hexdigest(), len(data))
