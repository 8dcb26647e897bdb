"""Batches of decoded pictures, each a pure function of its step.

Small datasets are decoded once and kept as bytes in memory; larger ones are decoded when they are needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from atoll_contract import preprocess
from atoll_stages.train.records import Example

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
