"""Images per second of a training step against a plain Keras `fit` of the same backbone on the same images.

`python tests/bench/train_throughput.py [--side 320] [--width 1.0] [--batch 8] [--seconds 20]`

Both train MobileNetV2 on synthetic images of the same size and batch, one after the other in one process. Keras
trains the bare backbone with a pooled classifier, AdamW, and images that are ready in memory; the detector does all
that a step of a run does: augmentation, feature pyramid, heads, matching, losses, AdamW and the moving average.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from atoll_contract.train_spec import Architecture
from atoll_stages.train.dataset import Batch
from atoll_stages.train.trainer import Trainer, TrainerSettings

CLASSES = 3
OBJECTS = 10
WARM_UP = 2
REPEATS = 16


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    parameters: int
    images_per_second: float


def timed(step: Callable[[], None], *, batch: int, seconds: float) -> float:
    """Images per second of `step`, after its first calls (tracing)."""
    for _ in range(WARM_UP):
        step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count * batch / (time.perf_counter() - start)


def noise_batch(*, side: int, batch: int) -> Batch:
    random = np.random.default_rng(0)
    corner = random.uniform(0.0, 0.7, (batch, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.3, (batch, OBJECTS, 2))], axis=-1)
    return Batch(
        canvases=random.integers(0, 255, (batch, side, side, 3)).astype(np.uint8),
        boxes=boxes.astype(np.float32),
        labels=random.integers(0, CLASSES, (batch, OBJECTS)).astype(np.int32),
    )


def detector(*, side: int, width: float, batch: int, seconds: float) -> Row:
    settings = TrainerSettings(Architecture.FPNLITE_320, width, CLASSES, seed=0, side=side)
    trainer = Trainer(settings)
    made = noise_batch(side=int(side * 1.5), batch=batch)
    rate = timed(
        lambda: void(trainer.train_step(made, step=1, learning_rate=1e-4, side=side)), batch=batch, seconds=seconds
    )
    return Row("Atoll: detector, whole training step", trainer.model.count_params(), rate)


def keras_fit(*, side: int, width: float, batch: int, seconds: float) -> Row:
    """Steps of `fit` over one array, counted by a callback."""
    backbone = keras.applications.MobileNetV2(
        (side, side, 3), alpha=width, include_top=False, weights=None, pooling="avg"
    )
    model = keras.Sequential([backbone, keras.layers.Dense(CLASSES)])
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    made = noise_batch(side=side, batch=batch)
    images, labels = made.canvases.astype(np.float32) / 127.5 - 1.0, made.labels[:, 0]
    timer = StepTimer(seconds)
    with contextlib.suppress(StopFit):
        model.fit(
            np.tile(images, (REPEATS, 1, 1, 1)),
            np.tile(labels, REPEATS),
            batch_size=batch,
            epochs=1000,
            verbose=0,
            callbacks=[timer],
        )
    return Row("Keras fit: backbone with classifier", model.count_params(), timer.steps * batch / timer.elapsed)


class StepTimer(keras.callbacks.Callback):  # type: ignore[misc]  # Keras carries no types
    """Counts batches after the first ones, and ends `fit` when the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen = 0
        self._start = 0.0
        self.steps = 0
        self.elapsed = 0.0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        del batch, logs
        self._seen += 1
        if self._seen == WARM_UP:
            self._start = time.perf_counter()
        if self._seen > WARM_UP:
            self.steps, self.elapsed = self._seen - WARM_UP, time.perf_counter() - self._start
            if self.elapsed >= self._seconds:
                raise StopFit


class StopFit(Exception):
    """The time is over; `fit` itself looks only at the end of an epoch."""


def void(_: object) -> None:
    """Drop a result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    sizes = {"side": given.side, "width": given.width, "batch": given.batch, "seconds": given.seconds}
    rows = [keras_fit(**sizes), detector(**sizes)]
    print(f"MobileNetV2 width {given.width}, {given.side} px, batch {given.batch}, {os.cpu_count()} CPUs")
    print(f"| {'training step':38} | {'parameters':>10} | {'pictures/s':>10} | {'ratio':>6} |")
    print(f"|{'-' * 40}|{'-' * 11}:|{'-' * 11}:|{'-' * 7}:|")
    for row in rows:
        ratio = row.images_per_second / rows[0].images_per_second
        print(f"| {row.name:38} | {row.parameters:>10,} | {row.images_per_second:>10.1f} | {ratio:>6.2f} |")


if __name__ == "__main__":
    main()
