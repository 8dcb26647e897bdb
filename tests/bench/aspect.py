"""What squashing and letterboxing cost where pictures have another aspect ratio than those of the training.

`PYTHONPATH=tests python tests/bench/aspect.py field.tar --out aspect.jsonl`, with an archive of 4:3 pictures.

Trains on the pictures as they are and on cuts of 16:9, each way, and measures the float model on both shapes of the
validation part. A finished training is a line of the file and is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from atoll_contract.images import Preprocessing, Resize
from atoll_contract.train_spec import Architecture, InitFrom, StartWeights, TrainSpec
from atoll_stages.train.config import make_config
from atoll_stages.train.evaluate import evaluate
from atoll_stages.train.initial_weights import assign_weights
from atoll_stages.train.trainer import Trainer
from bench.quality import train
from support.quality_sets import Parts, load, wide

SHAPES = ("4:3", "16:9")


def trained(spec: TrainSpec, parts: Parts) -> Trainer:
    """A trainer with the best averaged weights by the validation part."""
    trainer = Trainer(make_config(spec, classes=len(parts.classes), dataset_digest="").trainer)
    assign_weights(trainer.model, train(spec, parts, None).weights)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--architecture", type=Architecture, default=Architecture.FPNLITE_192)
    parser.add_argument("--width", type=float, default=0.35)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seeds", type=lambda text: [int(item) for item in text.split(",")], default=[0])
    parser.add_argument("--trained-on", type=lambda text: text.split(","), default=SHAPES)
    parser.add_argument("--out", type=Path, required=True, help="file of finished trainings, one JSON document a line")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    whole = load(given.archive)
    sets = {"4:3": whole, "16:9": wide(whole)}
    for seed, shape, resize in itertools.product(given.seeds, given.trained_on, Resize):
        cell = {"trained": shape, "resize": str(resize), "seed": seed}
        if any(row.items() >= cell.items() for row in rows):
            continue
        keras.utils.clear_session()
        spec = TrainSpec(
            given.architecture,
            given.width,
            StartWeights(InitFrom.RANDOM),
            steps=given.steps,
            batch_size=given.batch_size,
            seed=seed,
            preprocessing=Preprocessing(resize),
        )
        started = time.process_time()
        trainer = trained(spec, sets[shape])
        row = {**cell, "steps": given.steps, "cpuSeconds": round(time.process_time() - started)}
        for judged, parts in sets.items():
            metrics = evaluate(
                examples=parts.validation,
                detections=trainer.detect(parts.validation),
                classes=parts.classes,
                side=spec.architecture.side,
                resize=resize,
            )
            row[judged] = {"ap50": round(metrics.ap50, 4), "ap": round(metrics.ap, 4)}
        with given.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
