"""What tiles of the device (`detection.tiling`) find, and what they cost, by the size of the objects.

`PYTHONPATH=tests python tests/bench/tiles.py CELLS.tar --keep FOLDER --cell cells.whole.auto.0 --sizes 1,2,3`

Measures a training that `quality.py --keep` has kept: its int8 file, by the device's own code. The size 2 puts two by
two pictures into one, so that objects are half as large as those that the model has learned from.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from atoll_contract.train_spec import Architecture, TrainSpec
from atoll_edge.detector.backends.base import LoadedModel
from atoll_edge.detector.backends.litert import loader
from atoll_edge.detector.tiling import TiledModel, Tiling
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import MAX_DETECTIONS
from support.quality_measure import TrainedCell, int8_figures, int8_file
from support.quality_sets import Parts, grids, load, variants

TILINGS = (None, Tiling(2, 2), Tiling(3, 3))


def detect(model: LoadedModel, examples: Iterable[Example]) -> Iterator[Detections]:
    """Yields what the device's model finds in each picture, at most as many boxes as COCO counts."""
    for example in examples:
        with Image.open(io.BytesIO(example.encoded)) as image:
            found = model.detect(image.convert("RGB")).detections
        kept = sorted(found, key=lambda item: -item.score)[:MAX_DETECTIONS]
        yield Detections(
            np.clip(np.array([item.box for item in kept], np.float32).reshape(-1, 4), 0.0, 1.0),
            np.array([item.class_id for item in kept], np.int32),
            np.array([item.score for item in kept], np.float32),
        )


def rows(parts: Parts, model: LoadedModel, part: str, sizes: Iterable[int]) -> Iterator[str]:
    """Yields a line of the table for each size of objects and each tiling."""
    whole: list[Example] = getattr(parts, part)
    for size in sizes:
        examples = whole if size == 1 else grids(whole, size)
        for tiling in TILINGS:
            found = list(detect(TiledModel(model, tiling) if tiling else model, examples))
            own = int8_figures(parts.classes, examples, found, side=model.width)
            name = f"{tiling.rows}×{tiling.columns}" if tiling else "none"
            yield f"| 1/{size} | {name} | {own.ap50:.3f} / {own.ap:.3f} | {own.f1:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder of quality.py's trainings")
    parser.add_argument("--cell", required=True, help="name of the training: SET.VARIANT.RECIPE.SEED")
    parser.add_argument("--architecture", type=Architecture, default=Architecture.FPNLITE_320)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--sizes", type=lambda text: [int(item) for item in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    given = parser.parse_args()
    data, variant, *_ = given.cell.split(".")
    parts = variants(data, {data: load(given.archive)})[variant]()
    trained = TrainedCell.read(given.keep, given.cell)
    if trained is None:
        parser.error(f"{given.keep} holds no training {given.cell}; quality.py --keep writes one")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(int8_file(TrainSpec(given.architecture, given.width), parts, trained))
        model = loader().load(file, threads=1)
        print("| objects | tiles | AP50 / AP | F1 at .5 |\n|---|---|---:|---:|")
        for row in rows(parts, model, given.part, given.sizes):
            print(row, flush=True)


if __name__ == "__main__":
    main()
