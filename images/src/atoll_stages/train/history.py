"""The state of a training and its history: progress, best step, curves, divergence, and TensorBoard's event file."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_contract.document import Document, replace
from atoll_contract.errors import ModelError, Reason

DIVERGENCE_WINDOW = 20
# The loss starts near 2.3 and falls; a mean above ten times the first one means that the weights are lost.
MAX_LOSS_RATIO = 10.0


class Point(Document, frozen=True):
    """One entry of the curves. Losses are means since the entry before; APs are None where none was measured."""

    step: int
    loss: float
    classification_loss: float
    box_loss: float
    learning_rate: float
    ap50: float | None = None
    ap: float | None = None

    @property
    def quality(self) -> float | None:
        """By which the best step is chosen; None where nothing was measured."""
        return None if self.ap50 is None or self.ap is None else step_quality(self.ap50, self.ap)


def step_quality(ap50: float, ap: float) -> float:
    """Returns the figure by which the best step is chosen: the mean of AP50 and AP.

    A few dozen pictures have nearly the same AP50 at most steps, and one object decides which is the highest; an early
    step often is, whose boxes are poor.
    """
    return (ap50 + ap) / 2


class Best(Document, frozen=True):
    """The step whose averaged weights are the best so far on the validation part, and their AP50."""

    step: int
    ap50: float


class WorkerCount(Document, frozen=True):
    """From this step on, so many workers trained."""

    step: int
    count: int


class Progression(Document, frozen=True):
    """The state of a training beside its variables, after `step` steps."""

    step: int = 0
    best: Best | None = None
    # Evaluations in a row that were not the best.
    stale: int = 0
    seconds: float = 0.0
    history: tuple[Point, ...] = ()
    # None for one worker from the first step on.
    workers: tuple[WorkerCount, ...] | None = None

    @property
    def best_quality(self) -> float | None:
        """The quality of the best step; None where nothing was measured."""
        known = (point.quality for point in self.history if self.best and point.step == self.best.step)
        return next((quality for quality in known if quality is not None), None)

    def with_workers(self, count: int) -> Progression:
        """The same, going on with so many workers."""
        known = self.workers or (WorkerCount(0, 1),)
        if known[-1].count == count:
            return self
        # Where nothing was trained with a number, it leaves no trace.
        changes = (*(change for change in known if change.step < self.step), WorkerCount(self.step, count))
        return replace(self, workers=changes)

    def describe_workers(self) -> dict[str, str]:
        """The report's line on the workers; none where there was always one."""
        counts = self.workers or ()
        parts = [f"{item.count} from step {item.step} on" if item.step else str(item.count) for item in counts]
        return {"workers": ", ".join(parts)} if parts else {}


class Snapshot(Document, frozen=True):
    """A checkpoint's document."""

    fingerprint: str
    progression: Progression


class History(Document, frozen=True):
    """`history.json`: the course of a training and its settings, for the report. `start` describes its weights."""

    start: str
    accelerator: str
    steps: int
    step: int
    best: Best
    images_per_second: float
    seconds: float
    parameters: int
    settings: Mapping[str, str]
    points: tuple[Point, ...]


class DivergenceMonitor:
    """Detects that a training diverges. `peak` is the learning rate that the message names."""

    def __init__(self, *, peak: float) -> None:
        self._peak = peak
        self._recent: deque[float] = deque(maxlen=DIVERGENCE_WINDOW)
        self._first: float | None = None

    def update(self, loss: float, *, step: int) -> None:
        """Adds the loss of a step, counted from 1.

        Raises:
            ModelError: TrainingDiverged, the loss is not finite or its mean over a window rose tenfold.
        """
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {step}")
        self._recent.append(loss)
        mean = sum(self._recent) / len(self._recent)
        if self._first is None:
            if len(self._recent) == DIVERGENCE_WINDOW:
                self._first = mean
        elif mean > MAX_LOSS_RATIO * self._first:
            raise self._diverged(f"the loss rose from {self._first:.3g} to {mean:.3g} by step {step}")

    def _diverged(self, what: str) -> ModelError:
        return ModelError(
            Reason.TRAINING_DIVERGED,
            f"{what}; lower learningRate ({self._peak:.3g}), for example to {self._peak / 10:.2g}, or raise batchSize",
        )


class EventFile:
    """TensorBoard's event file at `path`, written without the tensorboard package. Use it as a context manager.

    The file is a TFRecord of `Event` messages; TensorBoard finds it by `tfevents` in its name.
    """

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self.path = path
        self._writer = tf.io.TFRecordWriter(str(path))
        self._write(file_version="brain.Event:2")

    def write_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Appends the values and flushes the file."""
        import tensorflow as tf

        rows = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step=step, summary=tf.compat.v1.Summary(value=rows))
        self._writer.flush()

    def _write(self, **fields: Any) -> None:
        import tensorflow as tf

        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
