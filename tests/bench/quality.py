"""How good detectors become at given settings: several data sets, hard variants of them, several seeds.

`PYTHONPATH=tests python tests/bench/quality.py --set cells=CELLS.tar --set animals=ANIMALS.tar --weights FILE.h5
--recipe before= --recipe auto=preset:auto --out cells.jsonl`

A recipe is a name and settings: `preset:auto`, an architecture (`architecture:ssd-mobilenet-v2-fpnlite-512`), and
hyperparameters (`frozen-blocks:3,small-share:0.4`), or nothing.
Every cell (set, variant, recipe, seed) is trained on the train part and measured on the validation part; `--part test`
is for the one time at the end, and trains nothing where `--keep` names the folder of the trainings. A measured cell is
a line of the file and is not computed again, so that the bench may be ended and gone on with at any time. The data sets
are named to the bench; none is part of the project.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from atoll_contract.recipe import sufficient_steps
from atoll_contract.stage_result import Progress
from atoll_contract.train_spec import Architecture, InitFrom, Preset, StartWeights, TrainSpec
from atoll_stages.train.config import make_config
from atoll_stages.train.dataset import BatchLoader, canvas_side
from atoll_stages.train.history import Point, Progression
from atoll_stages.train.initial_weights import load_imagenet, weights_by_path
from atoll_stages.train.loop import TrainingLoop
from atoll_stages.train.trainer import Trainer
from support.quality_measure import TrainedCell, measure_float, measure_int8
from support.quality_sets import Parts, load, variants

BATCH_SIZE = 8
VARIANTS = ("whole", "20", "50", "100", "small", "wide", "dominant")


@dataclass(frozen=True)
class Cell:
    """One training of the table."""

    data: str
    variant: str
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        return ".".join(str(value) for value in asdict(self).values())


@dataclass
class KeepBest:
    """The callbacks of a training: it keeps the best averaged weights in memory."""

    trainer: Trainer
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def on_best(self, step: int) -> None:
        with self.trainer.average.applied():
            self.weights = weights_by_path(self.trainer.model)

    def on_checkpoint(self, progression: Progression) -> None:
        """Nothing is kept."""

    def on_point(self, point: Point) -> None:
        """Nothing is drawn."""

    def on_progress(self, progress: Progress) -> None:
        """Nothing is shown."""

    def check_stop(self) -> None:
        """It always goes on."""


def train_spec(recipe: str, given: argparse.Namespace, *, images: int, seed: int) -> TrainSpec:
    """The settings of a recipe: preset, architecture and hyperparameters, as `name:value,name:value`."""
    parameters = dict(item.split(":", 1) for item in recipe.split(",") if item)
    preset = Preset(parameters.pop("preset", Preset.PLAIN))
    architecture = Architecture(parameters.pop("architecture", given.architecture))
    start = InitFrom.RANDOM if given.weights is None else InitFrom.IMAGENET
    steps = given.steps or sufficient_steps(images, start, batch_size=BATCH_SIZE)
    return TrainSpec(
        architecture,
        given.width,
        StartWeights(start),
        steps=steps,
        batch_size=BATCH_SIZE,
        seed=seed,
        hyperparameters=parameters,
        preset=preset,
    )


def train(spec: TrainSpec, parts: Parts, weights: Path | None) -> TrainedCell:
    """Trains, and returns the best averaged weights by the validation part."""
    start, cpu = time.monotonic(), time.process_time()
    boxes = sum(len(example.boxes) for example in parts.train)
    config = make_config(spec, classes=len(parts.classes), dataset_digest="", boxes=boxes)
    trainer = Trainer(config.trainer)
    if weights is not None:
        load_imagenet(trainer.model, weights, width=spec.width)
    trainer.average.reset()
    kept = KeepBest(trainer)
    side = canvas_side(spec.architecture.side, count=len(parts.train))
    with BatchLoader(
        parts.train, side=side, batch_size=config.batch_size, sampling=config.sampling, resize=spec.resize
    ) as loader:
        loop = TrainingLoop(
            config=config,
            trainer=trainer,
            loader=loader,
            validation=parts.validation,
            classes=parts.classes,
            callbacks=kept,
        )
        loop.run(Progression())
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu
    return TrainedCell(kept.weights, config.steps, round(seconds), round(cpu_seconds))


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    names = [name for name, _ in given.set]
    recipes = [name for name, _ in given.recipe]
    for seed, data, variant, recipe in itertools.product(given.seeds, names, given.variants, recipes):
        yield Cell(data, variant, recipe, seed)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over the seeds; ± is half of the range."""
    recipes = sorted({row["recipe"] for row in rows})
    head = ["data set", "variant", "pictures", *(f"{recipe}: AP50 / AP" for recipe in recipes)]
    lines = [f"| {' | '.join(head)} |", f"|---|---|---:|{'---:|' * len(recipes)}"]
    for data, variant in sorted({(row["data"], row["variant"]) for row in rows}):
        own = [row for row in rows if (row["data"], row["variant"]) == (data, variant)]
        texts = [_text([row for row in own if row["recipe"] == recipe]) for recipe in recipes]
        lines.append(f"| {data} | {variant} | {own[0]['pictures']} | {' | '.join(texts)} |")
    return "\n".join(lines)


def int8_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each training: what the int8 file lost, how sure its figure is, and what the score of .5 costs."""
    head = ["data set", "variant", "recipe", "seed", "float AP50 / AP", "int8 AP50 [95 %] / AP", "drop"]
    head += ["best F1 at", "F1 at .5 / best"]
    lines = [f"| {' | '.join(head)} |", f"|---|---|---|{'---:|' * 6}"]
    for row in sorted((row for row in rows if "int8" in row), key=lambda r: (r["data"], r["variant"], r["recipe"])):
        own, exact = row["int8"], row["float"]
        interval = "–".join(f"{border:.3f}" for border in own.get("interval", ()))
        scores = ", ".join(f"{score:.2f}" for score in own["thresholds"].values())
        columns = [
            *(str(row[key]) for key in ("data", "variant", "recipe", "seed")),
            f"{exact['ap50']:.3f} / {exact['ap']:.3f}",
            f"{own['ap50']:.3f} [{interval}] / {own['ap']:.3f}",
            f"{100 * (exact['ap50'] - own['ap50']):.1f}",
            scores,
            f"{own['f1']:.3f} / {own['best_f1']:.3f}",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def _text(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "–"
    ap50, ap = ([row["measured"][key] for row in rows] for key in ("ap50", "ap"))
    spread = f" ± {(max(ap50) - min(ap50)) / 2:.3f}" if len(rows) > 1 else ""
    return f"{statistics.mean(ap50):.3f}{spread} / {statistics.mean(ap):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pair = lambda text: tuple(text.split("=", 1))  # noqa: E731
    parser.add_argument("--set", type=pair, action="append", required=True, metavar="NAME=ARCHIVE")
    parser.add_argument("--recipe", type=pair, action="append", required=True, metavar="NAME=SETTINGS")
    parser.add_argument("--variants", type=lambda t: t.split(","), default=VARIANTS)
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--weights", type=Path, help="ImageNet weights of this width; without them: random ones")
    parser.add_argument("--architecture", type=Architecture, default=Architecture.FPNLITE_320)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, help="without it as many as a run takes for so many pictures")
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--int8", action="store_true", help="measure the exported int8 file too")
    parser.add_argument("--keep", type=Path, help="folder of the trained weights, for measuring another part later")
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, one JSON document a line")
    given = parser.parse_args()
    found = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    rows = [row for row in found if row["part"] == given.part]
    done = {tuple(row[key] for key in ("data", "variant", "recipe", "seed")) for row in rows}
    left = [cell for cell in cells(given) if tuple(asdict(cell).values()) not in done]
    sets = {name: load(Path(archive)) for name, archive in given.set} if left else {}
    for cell in left:
        row = measure(cell, given, sets)
        if row is not None:
            rows.append(row)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(f"{given.architecture}, width {given.width}, {given.part} part; mean of the seeds ± half of their range")
    print(table(rows))
    if given.int8:
        print(int8_table(rows))


def measure(cell: Cell, given: argparse.Namespace, sets: dict[str, Parts]) -> dict[str, Any] | None:
    """Trains and measures a cell; None where the set has no such variant."""
    make = variants(cell.data, sets).get(cell.variant)
    if make is None:
        return None
    parts = make()
    keras.utils.clear_session()
    recipe = dict(given.recipe)[cell.recipe]
    spec = train_spec(recipe, given, images=len(parts.train), seed=cell.seed)
    trained = TrainedCell.read(given.keep, cell.name) if given.keep else None
    if trained is None:
        trained = train(spec, parts, given.weights)
        if given.keep:
            trained.write(given.keep, cell.name)
    measured = getattr(parts, given.part)
    row = {**asdict(cell), "part": given.part, "pictures": len(parts.train), "measuredPictures": len(measured)}
    row |= {"settings": recipe, "steps": trained.steps}
    row |= {"seconds": trained.seconds, "cpuSeconds": trained.cpu_seconds}
    row["float"] = row["measured"] = measure_float(spec, parts, measured, trained).document()
    if given.int8:
        row["int8"] = row["measured"] = measure_int8(spec, parts, measured, trained).document()
    return row


if __name__ == "__main__":
    main()
