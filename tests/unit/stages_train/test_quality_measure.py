"""The figures of the recipe bench, and the trainings that it keeps."""

from pathlib import Path

import numpy as np

from atoll_stages.export.evaluation import match_by_class
from atoll_stages.train.detections import Detections
from support.detection_data import CLASSES, labelled_images
from support.quality_measure import TrainedCell, f1_at, int8_figures

SIDE = 320
EXAMPLES = labelled_images(8)


def detections(*, right: float, wrong: float) -> list[Detections]:
    """Every object is found with the score `right`, and in every image a disc that is none with the score `wrong`."""
    corner = np.array([[0.0, 0.0, 0.02, 0.02]], np.float32)
    return [
        Detections(
            np.concatenate([example.boxes, corner]),
            np.array([*example.labels, 1], np.int32),
            np.array([right, right, wrong], np.float32),
        )
        for example in EXAMPLES
    ]


def test_f1_counts_what_reaches_the_threshold_of_its_class() -> None:
    matches = match_by_class(EXAMPLES, detections(right=0.4, wrong=0.2), len(CLASSES))
    assert f1_at([0.3, 0.3], matches) == 1.0
    # All objects are found, and each third detection is wrong.
    assert abs(f1_at([0.1, 0.1], matches) - 2 * 16 / (24 + 16)) < 1e-9
    # Of each image the square alone is left.
    assert abs(f1_at([0.3, 0.5], matches) - 2 * 8 / (8 + 16)) < 1e-9
    assert f1_at([0.9, 0.9], matches) == 0.0


def test_the_figures_say_where_the_best_threshold_lies_and_what_one_half_costs() -> None:
    figures = int8_figures(CLASSES, EXAMPLES, detections(right=0.4, wrong=0.2), side=SIDE)
    assert figures.ap50 == 1.0
    assert figures.interval is not None
    assert figures.interval[0] <= figures.ap50 <= figures.interval[1]
    assert all(0.2 <= score <= 0.4 for score in figures.thresholds.values())
    assert (figures.f1, figures.best_f1) == (0.0, 1.0)
    assert set(figures.document()) == {"ap50", "ap", "interval", "thresholds", "f1", "best_f1"}


def test_a_kept_training_is_read_again_and_another_is_not_there(tmp_path: Path) -> None:
    weights = {"block_1_expand/kernel": np.arange(4, dtype=np.float32), "head/bias": np.ones(2, np.float32)}
    TrainedCell(weights, steps=670, seconds=12, cpu_seconds=9).write(tmp_path / "kept", "cells.whole.auto.0")
    read = TrainedCell.read(tmp_path / "kept", "cells.whole.auto.0")
    assert read is not None
    assert (read.steps, read.seconds, read.cpu_seconds) == (670, 12, 9)
    assert {path: value.tolist() for path, value in read.weights.items()} == {
        path: value.tolist() for path, value in weights.items()
    }
    assert TrainedCell.read(tmp_path / "kept", "cells.whole.auto.1") is None
