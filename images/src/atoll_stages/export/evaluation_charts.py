"""The charts of a report on the training and on the evaluation of the exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from atoll_stages.export.charts import Axes, Series, line_chart
from atoll_stages.export.colors import class_color
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, Curve, Measurement
from atoll_stages.train.history import History

# Lines of more classes than this hide each other.
MAX_CLASSES = 24
THRESHOLDS = np.linspace(0.0, 1.0, 101)


def evaluation_charts(measurement: Measurement) -> list[Markup]:
    """Returns F1, precision and recall over the confidence threshold, and precision over recall, a line for a class."""
    drawn = drawn_classes(measurement.curves)
    curves = [(class_color(index), measurement.curves[index]) for index in drawn]
    note = f"The {len(drawn)} classes with the most objects." if len(drawn) < len(_learned(measurement.curves)) else ""
    charts = [
        line_chart(
            Axes("confidence threshold", f"{name} over the confidence threshold", (0, 1), (0, 1)),
            [over_thresholds(curve, figure, color=color) for color, curve in curves],
            note=note or explanation,
        )
        for name, explanation, figure in (
            ("F1", "High where precision and recall both are. The dot is the threshold of the release.", _f1),
            ("Precision", "The share of detections that are right, where weaker ones are left out.", _precision),
            ("Recall", "The share of objects that are found, where weaker detections are left out.", _recall),
        )
    ]
    series = [
        Series(
            c.name, (0.0, *c.recall), (c.precision[0], *c.precision), (c.threshold_recall, c.threshold_precision), color
        )
        for color, c in curves
    ]
    over_recall = line_chart(Axes("recall", "Precision over recall, IoU .5, int8", (0, 1), (0, 1)), series, note=note)
    return [*charts, over_recall]


def drawn_classes(curves: Sequence[Curve]) -> list[int]:
    """Returns the indices of the classes that the charts show: those with a correct detection, at most MAX_CLASSES."""
    by_objects = sorted(_learned(curves), key=lambda index: (-curves[index].objects, index))
    return sorted(by_objects[:MAX_CLASSES])


def _learned(curves: Sequence[Curve]) -> list[int]:
    return [index for index, curve in enumerate(curves) if curve.recall]


# A figure of a class by its recall and precision.
Figure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _f1(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    value: np.ndarray = 2.0 * recall * precision / np.maximum(recall + precision, 1e-9)
    return value


def _precision(_: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return precision


def _recall(recall: np.ndarray, _: np.ndarray) -> np.ndarray:
    return recall


def over_thresholds(curve: Curve, figure: Figure, *, color: str) -> Series:
    """Returns the figure at each threshold up to the highest score; above it there is no detection."""
    scores = np.array(curve.scores)
    kept = np.array([int(np.sum(scores >= threshold)) for threshold in THRESHOLDS])
    there = kept > 0
    values = figure(np.array(curve.recall), np.array(curve.precision))[kept[there] - 1]
    point = float(figure(np.array([curve.threshold_recall]), np.array([curve.threshold_precision]))[0])
    return Series(curve.name, THRESHOLDS[there].tolist(), values.tolist(), (DEFAULT_THRESHOLD, point), color)


def training_charts(history: History) -> list[Markup]:
    """Returns losses, validation AP and learning rate over the steps."""
    points = history.points
    steps = [p.step for p in points]
    losses = [
        Series("total", steps, [p.loss for p in points]),
        Series("classification", steps, [p.classification_loss for p in points]),
        Series("box (1 - GIoU)", steps, [p.box_loss for p in points]),
    ]
    evaluated = [(p.step, p.ap50, p.ap) for p in points if p.ap50 is not None and p.ap is not None]
    eval_steps = [step for step, _, _ in evaluated]
    aps = [
        Series("AP50", eval_steps, [ap50 for _, ap50, _ in evaluated], (history.best.step, history.best.ap50)),
        Series("AP", eval_steps, [ap for _, _, ap in evaluated]),
    ]
    learning_rate = [Series("learning rate", steps, [p.learning_rate for p in points])]
    return [
        line_chart(Axes.around("step", "Loss", losses), losses),
        line_chart(Axes("step", "AP on the validation part", (0, max(steps, default=1)), (0, 1)), aps),
        line_chart(Axes.around("step", "Learning rate", learning_rate), learning_rate),
    ]
