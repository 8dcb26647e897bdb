"""Which examples each step of a training sees: a pure function of the step, the seed and the examples' classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How examples are chosen for a batch: in an order by `seed`, and more often where they have a class that less than
    `repeat_threshold` of the examples have."""

    seed: int
    repeat_threshold: float = 0.0


def repeat_factors(labels: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Returns how often each example comes in an epoch, from the labels of each: once, or the root of `threshold` over
    the share of the examples that its rarest class is in, where that is more (repeat factor sampling, Gupta, Dollár
    and Girshick 2019)."""
    classes = [set(own.tolist()) for own in labels]
    counts = Counter(label for own in classes for label in own)
    rarest = [min((counts[label] for label in own), default=len(labels)) for own in classes]
    return np.sqrt(np.maximum(1.0, threshold * len(labels) / np.array(rarest, np.float64)))


def batch_indices(step: int, *, batch_size: int, factors: np.ndarray, seed: int) -> np.ndarray:
    """Returns which examples a step sees. Each comes as often in an epoch as `factors` says, rounded up or down by
    chance; a batch may span two epochs."""
    length = epoch_length(factors)
    order = lru_cache(maxsize=None)(lambda epoch: epoch_order(seed=seed, epoch=epoch, factors=factors))
    positions = range(step * batch_size, (step + 1) * batch_size)
    return np.array([order(p // length)[p % length] for p in positions], np.int64)


def epoch_length(factors: np.ndarray) -> int:
    """Returns how many examples an epoch has."""
    return round(float(factors.sum()))


def epoch_order(*, seed: int, epoch: int, factors: np.ndarray) -> np.ndarray:
    """Returns the order of the examples in an epoch: for the same arguments the same on every machine."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:16], "little")
    random = np.random.Generator(np.random.Philox(key=key))
    length = epoch_length(factors)
    order = random.permutation(length)
    # Systematic sampling: an even grid, moved by chance, has as many points on each example as its factor says.
    ends = np.cumsum(factors) * (length / factors.sum())
    chosen = np.searchsorted(ends[:-1], np.arange(1, length + 1) - random.random())
    return np.asarray(chosen, np.int64)[order]
