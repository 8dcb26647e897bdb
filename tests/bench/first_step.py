"""CPU seconds until a training runs at full speed, against a plain Keras `fit` of the same backbone.

`python tests/bench/first_step.py [--width 1.0] [--batch 8]`

A training begins with small pictures and goes on with large ones, so both sides are taken: the first step at 224 pixels
and the first at 320, less the time of a step that is compiled already. Keras traces its graph anew for the second size.
Each candidate has a process of its own, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIDES = (224, 320)
CLASSES = 3


@dataclass(frozen=True)
class Row:
    """One line of the table; CPU seconds."""

    name: str
    first: float
    second: float
    step: float

    @property
    def total(self) -> float:
        return self.first + self.second - 2 * self.step


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(name: str, step: Callable[[int], object]) -> Row:
    first, second = (cpu_seconds(lambda side=side: step(side)) for side in SIDES)  # type: ignore[misc]
    warm = min(cpu_seconds(lambda: [step(side) for side in SIDES]) for _ in range(3))
    return Row(name, first, second, warm / 2)


def detector(*, width: float, batch: int, frozen_blocks: int) -> Row:
    from atoll_contract.train_spec import Architecture
    from atoll_stages.train.benchmark import noise_batch
    from atoll_stages.train.trainer import Trainer, TrainerSettings

    trainer = Trainer(TrainerSettings(Architecture.FPNLITE_320, width, CLASSES, seed=0, frozen_blocks=frozen_blocks))
    made = noise_batch(side=480, batch_size=batch, classes=CLASSES)
    name = "Atoll: detector" + (f", {frozen_blocks} blocks frozen" if frozen_blocks else "")
    return measured(name, lambda side: trainer.train_step(made, step=0, learning_rate=1e-4, side=side))


def keras_fit(*, width: float, batch: int) -> Row:
    import keras
    import numpy as np

    backbone = keras.applications.MobileNetV2(
        (None, None, 3), alpha=width, include_top=False, weights=None, pooling="avg"
    )
    model = keras.Sequential([backbone, keras.layers.Dense(CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.AdamW(1e-4), loss=loss, jit_compile=False)
    random = np.random.default_rng(0)
    images = {side: random.uniform(-1, 1, (batch, side, side, 3)).astype(np.float32) for side in SIDES}
    labels = np.zeros(batch, np.int32)
    return measured("Keras fit: backbone with classifier", lambda side: model.train_on_batch(images[side], labels))


def candidate(name: str, *, width: float, batch: int) -> Row:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if name == "keras":
        return keras_fit(width=width, batch=batch)
    return detector(width=width, batch=batch, frozen_blocks=int(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.candidate:
        row = candidate(given.candidate, width=given.width, batch=given.batch)
        sys.stdout.write(json.dumps(asdict(row)) + "\n")
        return
    sizes = ["--width", str(given.width), "--batch", str(given.batch)]
    rows = []
    for name in ("keras", "0", "3"):
        command = [sys.executable, __file__, *sizes, "--candidate", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(Row(**json.loads(done.stdout.splitlines()[-1])))
    print(f"MobileNetV2 width {given.width}, batch {given.batch}, one thread, CPU seconds")
    print(f"| {'first steps':36} | {'at 224':>6} | {'at 320':>6} | {'beyond two steps':>16} | {'ratio':>5} |")
    print(f"|{'-' * 38}|{'-' * 7}:|{'-' * 7}:|{'-' * 17}:|{'-' * 6}:|")
    for row in rows:
        ratio = row.total / rows[0].total
        print(f"| {row.name:36} | {row.first:>6.1f} | {row.second:>6.1f} | {row.total:>16.1f} | {ratio:>5.2f} |")


if __name__ == "__main__":
    main()
