"""`python -m atoll_stages.train --time …` measures how fast this machine trains a detector, by a few steps on noise.

Nothing is learned or written. A step on noise takes as long as one on images, because no operation depends on what
they show.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
from PIL import Image

from atoll_contract.document import to_json
from atoll_contract.stage import ExportSpec
from atoll_contract.tool_reports import Timing
from atoll_contract.train_spec import Accelerator, Architecture, InitFrom, Preset, StartWeights, TrainSpec
from atoll_stages.train.config import make_config
from atoll_stages.train.dataset import Batch, Example, canvas_side
from atoll_stages.train.detections import BATCH_SIZE
from atoll_stages.train.devices import find_devices
from atoll_stages.train.loop import MAX_VALIDATION_IMAGES
from atoll_stages.train.trainer import Trainer
from atoll_stages.train.unloaded_time import UnloadedTime

# Steps that are timed at each image size, after one that traces the graph. Their median counts.
TIMED_STEPS = 5
OBJECTS = 8
# The export stage evaluates the float model and the int8 one.
EXPORTED_MODELS = 2
_MODEL_SIZE = re.compile(r"(1\.0|0\.5|0\.35)x([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class DatasetSize:
    """The numbers that decide the time: of classes, and of images to train, validate and, after export, test on."""

    classes: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class ModelSize:
    """A width of the detector and a batch size."""

    width: float
    batch_size: int


def run_benchmark(arguments: Sequence[str]) -> int:
    """Runs the command: prints one JSON document on standard output."""
    options = _parser().parse_args(arguments)
    dataset = DatasetSize(options.classes, options.train, options.validation, options.measured)
    timing = measure(
        Architecture(options.time),
        dataset,
        on_cpu=options.on_cpu,
        on_gpu=options.on_gpu,
        init_from=InitFrom(options.start),
        steps=options.steps,
    )
    sys.stdout.write(to_json(timing).decode() + "\n")
    return 0


def measure(
    architecture: Architecture,
    dataset: DatasetSize,
    *,
    on_cpu: ModelSize,
    on_gpu: ModelSize,
    init_from: InitFrom,
    steps: int,
) -> Timing:
    """Times a few steps with the size that is meant for the device that training would use. What the preset freezes
    depends on the kind of weights to start from; the steps themselves have random ones."""
    start, cpu_start = time.perf_counter(), time.process_time()
    devices = find_devices(Accelerator.AUTO)
    on_cpu_only = devices.kind is Accelerator.CPU
    size = on_gpu if devices.kind is Accelerator.GPU else on_cpu
    spec = TrainSpec(
        architecture, size.width, StartWeights(init_from), steps=steps, batch_size=size.batch_size, preset=Preset.AUTO
    )
    config = make_config(spec, classes=dataset.classes, dataset_digest="")
    keras.config.set_dtype_policy("mixed_bfloat16" if devices.mixed_precision else "float32")
    trainer = Trainer(config.trainer)
    canvas = canvas_side(architecture.side, count=dataset.train)
    batch = noise_batch(side=canvas, batch_size=size.batch_size, classes=dataset.classes)
    sides = (config.image_size.first, config.image_size.side)
    for side in sides:
        trainer.train_step(batch, step=0, learning_rate=1e-4, side=side)
    startup_seconds = time.perf_counter() - start
    if on_cpu_only:
        # One processor builds and traces; what it waits for others is not the run's own.
        startup_seconds = min(startup_seconds, time.process_time() - cpu_start)
    small, full = (
        _typical_seconds(partial(trainer.train_step, batch, step=1, learning_rate=1e-4, side=side), on_cpu=on_cpu_only)
        for side in sides
    )
    evaluated = math.ceil(steps / config.eval_every) * min(dataset.validation, MAX_VALIDATION_IMAGES)
    evaluated += EXPORTED_MODELS * dataset.test + ExportSpec(spec).calibration_pictures
    small_share = config.image_size.small_share
    return Timing(
        accelerator=str(devices.kind),
        cpus=os.cpu_count() or 1,
        width=size.width,
        batch=size.batch_size,
        seconds_per_step=small_share * small + (1 - small_share) * full,
        # Both stages load TensorFlow and build the detector.
        other_seconds=2 * startup_seconds
        + evaluated * _evaluation_seconds(trainer, architecture.side, on_cpu=on_cpu_only),
    )


def noise_batch(*, side: int, batch_size: int, classes: int) -> Batch:
    """Makes a batch of images of noise, with boxes in them."""
    random = np.random.default_rng(0)
    corner = random.uniform(0.0, 0.7, (batch_size, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.3, (batch_size, OBJECTS, 2))], axis=-1)
    return Batch(
        canvases=random.integers(0, 255, (batch_size, side, side, 3)).astype(np.uint8),
        boxes=boxes.astype(np.float32),
        labels=random.integers(0, classes, (batch_size, OBJECTS)).astype(np.int32),
    )


def _evaluation_seconds(trainer: Trainer, side: int, *, on_cpu: bool) -> float:
    """Returns the seconds for each image of an evaluation."""
    jpeg = io.BytesIO()
    Image.fromarray(noise_batch(side=side, batch_size=1, classes=1).canvases[0]).save(jpeg, "JPEG")
    example = Example("noise", jpeg.getvalue(), side, side, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    examples = [example] * BATCH_SIZE
    trainer.detect(examples)
    return _typical_seconds(lambda: trainer.detect(examples), on_cpu=on_cpu) / BATCH_SIZE


def _typical_seconds(work: Callable[[], object], *, on_cpu: bool) -> float:
    """Returns the seconds that `work` takes where nothing else runs."""
    measured = UnloadedTime(on_cpu)
    measured.begin()
    for _ in range(TIMED_STEPS):
        work()
        measured.end()
    return measured.median()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m atoll_stages.train",
        description="Time a few training steps on this machine. Without arguments: the train stage, which reads its "
        "input from the environment.",
    )
    parser.add_argument("--time", choices=[str(item) for item in Architecture], required=True, metavar="ARCHITECTURE")
    parser.add_argument("--on-cpu", type=_model_size, required=True, metavar="WIDTHxBATCH", help="timed without a GPU")
    parser.add_argument("--on-gpu", type=_model_size, required=True, metavar="WIDTHxBATCH", help="timed on a GPU")
    parser.add_argument("--start", choices=[str(item) for item in InitFrom], default=str(InitFrom.IMAGENET))
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--train", type=int, default=100, help="pictures of the train part")
    parser.add_argument("--validation", type=int, default=25, help="pictures of the validation part")
    parser.add_argument("--measured", type=int, default=25, help="pictures of the test part, or of validation")
    parser.add_argument("--steps", type=int, default=1000, help="of the whole training")
    return parser


def _model_size(text: str) -> ModelSize:
    found = _MODEL_SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}; write <width>x<pictures>, as 0.5x8")
    return ModelSize(float(found[1]), int(found[2]))
