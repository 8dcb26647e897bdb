"""A training on a GPU in at most 8 minutes: pictures per second, how busy the GPU is, and AP50 of the drawn sample.

`PYTHONPATH=tests python tests/bench/gpu.py [--architecture ssd-mobilenet-v2-fpnlite-320] [--width 1.0] [--batch 32]`

Each row is a setting of the train stage: mixed precision, XLA, and the pictures decoded once or for each batch. The
last part trains the sample of `atoll sample field` for `--train-seconds` and measures its validation part. Without a
GPU nothing is measured, unless `--device cpu` asks for it, which shows that the script works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from atoll_contract.train_spec import Accelerator, Architecture
from atoll_stages.sample.field import ARCHIVE, SampleSpec, write_archive
from atoll_stages.train.dataset import CACHE_BYTES, BatchLoader, Example, canvas_side
from atoll_stages.train.devices import find_devices
from atoll_stages.train.evaluate import evaluate
from atoll_stages.train.optimizer import LearningRateSchedule
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings
from support.quality_sets import Parts, load

LIMIT_SECONDS = 480.0
WARM_UP = 3
SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    policy: str
    xla: bool = False
    cached: bool = True


SETTINGS = (
    Setting("float32", "float32"),
    Setting("bfloat16", "mixed_bfloat16"),
    Setting("bfloat16, decoded for each batch", "mixed_bfloat16", cached=False),
    Setting("bfloat16, XLA", "mixed_bfloat16", xla=True),
)


@dataclass
class Utilisation:
    """The share of time in which the GPU worked, and its memory, as nvidia-smi tells them."""

    shares: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.shares:
            return "not told"
        return f"{sum(self.shares) / len(self.shares):.0f} %, {max(self.mebibytes):.0f} MiB"


@contextmanager
def watched() -> Iterator[Utilisation]:
    """Asks nvidia-smi again and again while the block runs."""
    found, ended = Utilisation(), threading.Event()
    program = shutil.which("nvidia-smi")
    query = [str(program), "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
            rows = [line.split(",") for line in done.stdout.splitlines() if done.returncode == 0]
            found.shares += [float(row[0]) for row in rows[:1]]
            found.mebibytes += [float(row[1]) for row in rows[:1]]

    thread = threading.Thread(target=watch, daemon=True)
    if program:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        if program:
            thread.join()


@dataclass(frozen=True)
class Bench:
    """The model, and the pictures that it is trained on."""

    architecture: Architecture
    width: float
    batch: int
    parts: Parts

    def trainer(self, setting: Setting) -> Trainer:
        keras.utils.clear_session()
        keras.config.set_dtype_policy(setting.policy)
        trainer = Trainer(
            TrainerSettings(self.architecture, self.width, len(self.parts.classes), seed=0, xla=setting.xla)
        )
        trainer.average.reset()
        return trainer

    def loader(self, examples: Sequence[Example], setting: Setting) -> BatchLoader:
        side = canvas_side(self.architecture.side, count=len(examples))
        cache = CACHE_BYTES if setting.cached else 0
        return BatchLoader(examples, side=side, batch_size=self.batch, sampling=Sampling(0), cache_bytes=cache)

    def speed(self, setting: Setting, seconds: float) -> str:
        """Trains for so many seconds after the first steps; a row of the table."""
        trainer, side = self.trainer(setting), self.architecture.side
        begun = time.perf_counter()
        with self.loader(self.parts.train, setting) as loader:
            for step in range(WARM_UP):
                trainer.train_step(loader.batch(step), step=step, learning_rate=1e-4, side=side)
            start, steps = time.perf_counter(), 0
            with watched() as utilisation:
                while time.perf_counter() - start < seconds or not steps:
                    trainer.train_step(loader.batch(WARM_UP + steps), step=steps, learning_rate=1e-4, side=side)
                    steps += 1
            rate = steps * self.batch / (time.perf_counter() - start)
        return f"| {setting.name:34} | {rate:>10.1f} | {start - begun:>13.0f} | {utilisation!s:>16} |"

    def ap50(self, setting: Setting, seconds: float) -> str:
        """Trains the sample for so many seconds, and measures the averaged weights on its validation part."""
        trainer, side = self.trainer(setting), self.architecture.side
        with self.loader(self.parts.train, setting) as loader:
            start = time.perf_counter()
            trainer.train_step(loader.batch(0), step=0, learning_rate=1e-4, side=side)
            first = time.perf_counter()
            trainer.train_step(loader.batch(1), step=1, learning_rate=1e-4, side=side)
            one = time.perf_counter() - first
            steps = max(2, int((seconds - (first - start)) / one))
            rates = LearningRateSchedule(3e-3, steps)
            step = 1
            for step in range(2, steps):
                trainer.train_step(loader.batch(step), step=step, learning_rate=rates.at(step), side=side)
                if time.perf_counter() - start > seconds:
                    break
        measured = self.parts.validation
        found = trainer.detect_averaged(measured)
        metrics = evaluate(examples=measured, detections=found, classes=self.parts.classes, side=side)
        spent = time.perf_counter() - start
        after = f"after {step + 1} steps, {spent:.0f} s ({setting.name})"
        return f"AP50 {metrics.ap50:.3f} on {len(measured)} pictures {after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=Accelerator, default=Accelerator.GPU)
    parser.add_argument("--architecture", type=Architecture, default=Architecture.FPNLITE_320)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=240, help="of the drawn sample")
    parser.add_argument("--seconds", type=float, default=25.0, help="for each setting")
    parser.add_argument("--train-seconds", type=float, default=120.0)
    given = parser.parse_args()
    import tensorflow as tf

    if given.device is Accelerator.GPU and not tf.config.list_physical_devices("GPU"):
        print("TensorFlow sees no GPU here, so nothing is measured (--device cpu shows that the script works)")
        return
    begun = time.monotonic()
    devices = find_devices(given.device)
    with tempfile.TemporaryDirectory() as folder:
        spec = SampleSpec(seed=0, images=given.pictures, size=(480, 360), video_frames=0)
        write_archive(spec, Path(folder), os.cpu_count() or 1, lambda: None)
        parts = load(Path(folder) / ARCHIVE)
    bench = Bench(given.architecture, given.width, given.batch, parts)
    print(f"{given.architecture}, width {given.width:g}, batch {given.batch}, {devices.replicas} {devices.kind}")
    print(f"| {'setting':34} | {'pictures/s':>10} | {'first steps s':>13} | {'GPU busy, memory':>16} |")
    print(f"|{'-' * 36}|{'-' * 11}:|{'-' * 14}:|{'-' * 17}:|")
    for setting in SETTINGS:
        if time.monotonic() - begun > LIMIT_SECONDS - given.train_seconds - given.seconds:
            print(f"{setting.name}: left out, for the time is over", file=sys.stderr)
            continue
        print(bench.speed(setting, given.seconds), flush=True)
    print(bench.ap50(SETTINGS[1 if devices.mixed_precision else 0], given.train_seconds))


if __name__ == "__main__":
    main()
