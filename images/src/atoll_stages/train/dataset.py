"""The converted dataset: random access to its TFRecord shards, and batches of decoded images.

A batch is a pure function of the step number, so records must be reachable in any order: the shards are scanned once
for offsets, and a record is read with one `pread`. Small datasets are decoded once and kept as bytes in memory; larger
ones are decoded when a batch needs them, so that memory does not grow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.dataset import Dataset
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import DatasetError, IntegrityError, Reason
from atoll_contract.images import Region, Resize, boxes_in_input, image_region
from atoll_contract.stage import Stage
from atoll_stages.convert.tfrecord import decode_example
from atoll_stages.runtime.context import StageContext
from atoll_stages.train.sampling import Sampling, batch_indices, repeat_factors

Item = TypeVar("Item")

# TFRecord framing: length (uint64), crc of it (uint32), data, crc of the data (uint32); little endian.
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4

# Labels of rows of a batch that are not objects: padding, and objects of which too little is visible.
PADDING_LABEL = -1
IGNORED_LABEL = -2

# A canvas is larger than the input, so that zooming in (augment.py) still finds detail.
CANVAS_RATIO = 1.5
CACHE_BYTES = 1 << 30
DECODE_THREADS = 4


@dataclass(frozen=True)
class Example:
    """One labelled image. `boxes` float32 (objects, 4) as ymin, xmin, ymax, xmax, relative; `labels` from 0."""

    name: str
    encoded: bytes
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray

    def region(self, side: int, how: Resize) -> Region:
        """Where the image lies in an input of `side` pixels."""
        return image_region((self.width, self.height), side, how)


class Records(Sequence[Example]):
    """The examples of some shards, in order. Use it as a context manager."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [os.open(path, os.O_RDONLY) for path in paths]
        self._locations = [(file, *loc) for file, path in zip(self._files, paths, strict=True) for loc in scan(path)]

    def __len__(self) -> int:
        return len(self._locations)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        file, offset, length = self._locations[index]
        return parse_record(os.pread(file, length, offset))

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            os.close(file)
        self._files = []


def read_dataset(context: StageContext) -> Dataset:
    """Fetches the `dataset.json` of the run.

    Raises:
        IntegrityError: it is not the document that convert wrote.
    """
    artifact = context.input.artifact(Stage.CONVERT, "dataset")
    path = context.fetch(artifact, context.work / "dataset.json")
    try:
        return from_json(Dataset, path.read_bytes())
    except DecodeError as error:
        raise IntegrityError(f"{artifact.key} cannot be read: {error}") from None


def fetch_split(context: StageContext, dataset: Dataset, split: str) -> Records:
    """Fetches the records of a split of the dataset to the local disk.

    Raises:
        DatasetError: NoUsableExamples, the split is missing or empty.
    """
    part = dataset.splits.get(split)
    if part is None or not part.pictures:
        raise DatasetError(
            Reason.NO_USABLE_EXAMPLES,
            f"the dataset has no pictures in its {split} part; check conversion.split ({dataset.split_by})",
        )
    folder = context.work / split
    return Records([context.fetch(shard, folder / f"{i:05d}.tfrecord") for i, shard in enumerate(part.shards)])


def scan(path: Path) -> Iterator[tuple[int, int]]:
    """Yields offset and length of each record of a shard, by the framing alone.

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
            yield offset + _HEADER.size, length
            offset = end
            file.seek(offset)


def parse_record(data: bytes) -> Example:
    """Reads an example with the keys of the TF object detection API, whose class labels count from 1.

    Raises:
        IntegrityError: the record is not a tf.train.Example or lacks a key.
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


@dataclass(frozen=True)
class Batch:
    """`canvases` uint8 (batch, side, side, 3), which are inputs of that side; `boxes` float32 (batch, objects, 4),
    relative to them; `labels` int32 (batch, objects)."""

    canvases: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class BatchLoader:
    """The batches of a training, with canvases of `side` pixels. Use it as a context manager.

    One of several workers loads only its `rows` of each batch; None: all of them.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        side: int,
        batch_size: int,
        sampling: Sampling,
        rows: range | None = None,
        cache_bytes: int = CACHE_BYTES,
        resize: Resize = Resize.SQUASH,
    ) -> None:
        self._examples = examples
        self._side = side
        self._resize = resize
        self._batch_size = batch_size
        self._rows = range(batch_size) if rows is None else rows
        self._seed = sampling.seed
        self._pool = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
        count = len(examples)
        self._objects = [(boxes_in_input(e.boxes, e.region(side, resize)), e.labels) for e in examples]
        self._factors = repeat_factors([labels for _, labels in self._objects], sampling.repeat_threshold)
        self._max_objects = max((len(labels) for _, labels in self._objects), default=0) or 1
        self._cache: np.ndarray | None = None
        if count * side * side * 3 <= cache_bytes:
            self._cache = np.empty((count, side, side, 3), np.uint8)
            for i, canvas in enumerate(self._pool.map(self._decode, range(count))):
                self._cache[i] = canvas

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, counted from 0; boxes are padded with PADDING_LABEL."""
        whole = batch_indices(step, batch_size=self._batch_size, factors=self._factors, seed=self._seed)
        chosen = whole[self._rows.start : self._rows.stop]
        boxes = np.zeros((len(chosen), self._max_objects, 4), np.float32)
        labels = np.full((len(chosen), self._max_objects), PADDING_LABEL, np.int32)
        for row, index in enumerate(chosen):
            own_boxes, own_labels = self._objects[index]
            boxes[row, : len(own_labels)], labels[row, : len(own_labels)] = own_boxes, own_labels
        return Batch(self._canvases(chosen), boxes, labels)

    def _canvases(self, chosen: np.ndarray) -> np.ndarray:
        if self._cache is not None:
            cached: np.ndarray = self._cache[chosen]
            return cached
        return np.stack(list(self._pool.map(self._decode, chosen.tolist())))

    def _decode(self, index: int) -> np.ndarray:
        return preprocess.decode(self._examples[index].encoded, self._side, self._resize)

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def canvas_side(side: int, *, count: int, cache_bytes: int = CACHE_BYTES) -> int:
    """Returns the side to decode to: larger than the input, unless only the input's own size fits into the memory."""
    large = int(side * CANVAS_RATIO)
    return large if count * large * large * 3 <= cache_bytes or count * side * side * 3 > cache_bytes else side


def evenly_spaced(items: Sequence[Item], max_items: int) -> list[Item]:
    """Returns at most `max_items` of the items, evenly spaced, first and last included."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(max_items, len(items))).round().astype(int))
    return [items[i] for i in chosen]
