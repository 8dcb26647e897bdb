"""Where the time of one training step goes, by TensorFlow's own profiler.

    python tests/bench/step_profile.py [--width 1.0] [--side 320] [--batch 8] [--frozen 0] [--steps 6]

One thread. The profiler notes when each operation of the step begins and ends; the time of an operation is what its own
operations leave of it. The table has the median over the steps, so that other work on the machine does little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from atoll_contract.train_spec import Architecture
from atoll_stages.train import trainer as trained
from atoll_stages.train.benchmark import noise_batch
from atoll_stages.train.heads import head_of
from atoll_stages.train.optimizer import AdamW, MovingAverage

CLASSES = 3
AUGMENTATION, LOSS, OPTIMIZER, AVERAGES = "in_augment", "in_loss", "in_optimizer", "in_averages"
HEADS = ("head_", "class_", "box_", "extra_", "fpn_")
# What TensorFlow itself does from one operation to the next.
EXECUTOR, BETWEEN = "ExecutorState::", "between the operations"
# The operations of the network by what they compute, the first that matches.
KINDS = {
    "DepthwiseConv2d": "depthwise convolution",
    "Conv2D": "convolution",
    "BatchNorm": "batch normalisation",
    "Relu": "ReLU6",
}


def scoped(owner: Any, name: str, scope: str) -> None:
    """Lets the operations that a function of `owner` makes carry the name `scope`, and those of their gradients."""
    function: Callable[..., Any] = getattr(owner, name)

    def inside(*args: Any, **named: Any) -> Any:
        with tf.name_scope(scope):
            return function(*args, **named)

    setattr(owner, name, inside)


def part_of(name: str, kind: str) -> str:
    """The row of an operation, by its name in the graph and its kind."""
    for scope, part in (
        (AUGMENTATION, "augmentation"),
        (OPTIMIZER, "optimizer"),
        (AVERAGES, "moving average"),
    ):
        if scope in name:
            return part
    way = "backward" if "gradient_tape" in name or "Grad" in kind or "Backprop" in kind else "forward"
    if LOSS in name:
        return f"matching and losses, {way}"
    what = next((text for part, text in KINDS.items() if part in kind), None)
    if what == "convolution":
        what = "convolution of pyramid and heads" if any(head in name for head in HEADS) else "1×1 convolution, stem"
    return f"{what}, {way}" if what else "all else"


def self_times(events: list[tuple[int, int, str]]) -> Iterator[tuple[str, int]]:
    """Yields the name and the own picoseconds of each event of one thread, given as (begin, duration, name)."""
    open_events: list[list[Any]] = []
    for begin, duration, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_events and open_events[-1][0] <= begin:
            _, own, inner = open_events.pop()
            yield inner, own
        if open_events:
            open_events[-1][1] -= duration
        open_events.append([begin + duration, duration, name])
    for _, own, inner in open_events:
        yield inner, own


def operations(folder: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Returns the milliseconds, and the number, of the operations of one traced step by their row."""
    (path,) = folder.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for plane in space.planes:
        names = {number: item.name for number, item in plane.event_metadata.items()}
        for line in plane.lines:
            events = [(event.offset_ps, event.duration_ps, names[event.metadata_id]) for event in line.events]
            for text, own in self_times(events):
                name, _, kind = text.rpartition(":")
                if text.startswith(EXECUTOR):
                    times[BETWEEN] += own / 1e9
                elif name and kind.isidentifier() and "::" not in text:
                    times[part_of(name, kind)] += own / 1e9
                    counts[part_of(name, kind)] += 1
    return times, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frozen", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    scoped(trained, "augment", AUGMENTATION)
    scoped(type(head_of(Architecture.FPNLITE_320)), "loss", LOSS)
    scoped(AdamW, "apply", OPTIMIZER)
    scoped(MovingAverage, "update", AVERAGES)
    settings = trained.TrainerSettings(
        Architecture.FPNLITE_320, given.width, CLASSES, seed=0, side=given.side, frozen_blocks=given.frozen
    )
    trainer = trained.Trainer(settings)
    made = noise_batch(side=int(given.side * 1.5), batch_size=given.batch, classes=CLASSES)

    def step() -> None:
        trainer.train_step(made, step=1, learning_rate=1e-4, side=given.side)

    step()
    step()
    steps = []
    for _ in range(given.steps):
        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                step()
            steps.append(operations(Path(folder)))
    rows = {
        part: (statistics.median(times.get(part, 0.0) for times, _ in steps), steps[0][1].get(part, 0))
        for part in sorted({part for times, _ in steps for part in times})
    }
    total = sum(time for time, _ in rows.values())
    sys.stdout.write("| part of a step | operations | ms | share |\n|---|---:|---:|---:|\n")
    for part, (time, count) in sorted(rows.items(), key=lambda row: -row[1][0]):
        sys.stdout.write(f"| {part} | {count:,} | {time:.0f} | {time / total:.0%} |\n")
    sys.stdout.write(f"| all | {sum(count for _, count in rows.values()):,} | {total:.0f} | |\n")


if __name__ == "__main__":
    main()
