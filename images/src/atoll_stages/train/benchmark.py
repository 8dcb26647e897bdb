"""`python -m atoll_stages.train --time …`: how fast this machine trains a detector, by a few steps on noise.

Nothing is learned or written. Noise costs what pictures cost: no operation of the step depends on what they show.
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
from typing import TYPE_CHECKING

import numpy as np

from atoll_contract.document import to_json
from atoll_contract.stage import Accelerator, Architecture, ExportSpec, TrainSpec
from atoll_contract.tool_reports import Timing
from atoll_stages.train.config import Plan, make_plan
from atoll_stages.train.dataset import Batch, canvas_side
from atoll_stages.train.devices import find_devices
from atoll_stages.train.loop import MOST_MEASURED

if TYPE_CHECKING:
    from atoll_stages.train.trainer import Trainer


# Steps that are timed at each size, after one that traces the graph.
TIMED = 3
OBJECTS = 8
# The export stage evaluates the float model and the int8 one.
EXPORT_MODELS = 2
_SETTING = re.compile(r"(1\.0|0\.5|0\.35)x([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Parts:
    """What of the data set decides the time: classes, and pictures to fit, to choose by and to measure on."""

    classes: int
    train: int
    validation: int
    measured: int


@dataclass(frozen=True)
class Setting:
    """A width of the detector and the pictures of one step."""

    width: float
    batch: int


def measure(architecture: Architecture, parts: Parts, *, on_cpu: Setting, on_gpu: Setting, steps: int) -> Timing:
    """Time a few steps of the setting that is meant for the device that training would take."""
    begun = time.perf_counter()
    devices = find_devices(Accelerator.AUTO)
    chosen = on_gpu if devices.kind is Accelerator.GPU else on_cpu
    spec = TrainSpec(architecture=architecture, width=chosen.width, steps=steps, batch_size=chosen.batch)
    plan = make_plan(spec, classes=parts.classes, dataset_digest="")
    trainer = _trainer(plan, mixed=devices.mixed_precision)
    canvas = canvas_side(architecture.side, count=parts.train)
    made = noise(side=canvas, batch=chosen.batch, classes=parts.classes)
    sides = (plan.sizes.first, plan.sizes.side)
    for side in sides:
        trainer.step(made, position=0, rate=1e-4, side=side)
    start = time.perf_counter() - begun
    small, full = (_mean(partial(trainer.step, made, position=1, rate=1e-4, side=side)) for side in sides)
    evaluated = math.ceil(steps / plan.eval_every) * min(parts.validation, MOST_MEASURED)
    evaluated += EXPORT_MODELS * parts.measured + ExportSpec(spec).calibration_pictures
    return Timing(
        accelerator=str(devices.kind),
        cpus=os.cpu_count() or 1,
        width=chosen.width,
        batch=chosen.batch,
        seconds_per_step=plan.sizes.share * small + (1 - plan.sizes.share) * full,
        # Both stages load TensorFlow and build the detector.
        other_seconds=2 * start + evaluated * _evaluation(trainer, architecture.side),
    )


def _trainer(plan: Plan, *, mixed: bool) -> Trainer:
    import keras

    from atoll_stages.train.trainer import Trainer

    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    return Trainer(plan.trainer)


def _mean(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(TIMED):
        step()
    return (time.perf_counter() - begun) / TIMED


def _evaluation(trainer: Trainer, side: int) -> float:
    """Seconds for each picture of an evaluation."""
    from PIL import Image

    from atoll_stages.train.dataset import Example
    from atoll_stages.train.trainer import EVALUATION_BATCH

    jpeg = io.BytesIO()
    Image.fromarray(noise(side=side, batch=1, classes=1).canvases[0]).save(jpeg, "JPEG")
    example = Example("noise", jpeg.getvalue(), side, side, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    examples = [example] * EVALUATION_BATCH
    trainer.detect(examples)
    return _mean(lambda: trainer.detect(examples)) / EVALUATION_BATCH


def noise(*, side: int, batch: int, classes: int) -> Batch:
    """A batch of pictures that show nothing, with boxes in them."""
    random = np.random.default_rng(0)
    corner = random.uniform(0.0, 0.7, (batch, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.3, (batch, OBJECTS, 2))], axis=-1)
    return Batch(
        canvases=random.integers(0, 255, (batch, side, side, 3)).astype(np.uint8),
        boxes=boxes.astype(np.float32),
        labels=random.integers(0, classes, (batch, OBJECTS)).astype(np.int32),
    )


def run_timing(arguments: Sequence[str]) -> int:
    """The command: one JSON document on standard output."""
    options = _parser().parse_args(arguments)
    parts = Parts(options.classes, options.train, options.validation, options.measured)
    timing = measure(
        Architecture(options.time), parts, on_cpu=options.on_cpu, on_gpu=options.on_gpu, steps=options.steps
    )
    sys.stdout.write(to_json(timing).decode() + "\n")
    return 0


def _setting(text: str) -> Setting:
    found = _SETTING.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}; write <width>x<pictures>, as 0.5x8")
    return Setting(float(found[1]), int(found[2]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m atoll_stages.train",
        description="Time a few training steps on this machine. Without arguments: the train stage, which reads its "
        "input from the environment.",
    )
    parser.add_argument("--time", choices=[str(item) for item in Architecture], required=True, metavar="ARCHITECTURE")
    parser.add_argument("--on-cpu", type=_setting, required=True, metavar="WIDTHxBATCH", help="timed without a GPU")
    parser.add_argument("--on-gpu", type=_setting, required=True, metavar="WIDTHxBATCH", help="timed on a GPU")
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--train", type=int, default=100, help="pictures of the train part")
    parser.add_argument("--validation", type=int, default=25, help="pictures of the validation part")
    parser.add_argument("--measured", type=int, default=25, help="pictures of the test part, or of validation")
    parser.add_argument("--steps", type=int, default=1000, help="of the whole training")
    return parser
