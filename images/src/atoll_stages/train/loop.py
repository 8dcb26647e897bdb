"""The training loop: steps, measurements, checkpoints, and when to end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from atoll_contract.document import replace
from atoll_contract.stage_result import Progress
from atoll_stages.runtime.context import Interrupted
from atoll_stages.train.config import Plan
from atoll_stages.train.dataset import Batch, Example, Pictures
from atoll_stages.train.evaluate import Metrics, evaluate
from atoll_stages.train.history import Best, DivergenceWatch, Point, Progression
from atoll_stages.train.trainer import Trainer

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

# Validation pictures measured while training; the export stage measures all.
MOST_MEASURED = 250
REPORT_SECONDS = 2.0
CURVE_POINTS = 200


class Keeper(Protocol):
    """Where the loop's results go."""

    def keep_best(self, step: int) -> None:
        """The averaged weights, which the model has at this moment, are the best so far."""

    def checkpoint(self, progression: Progression) -> None:
        """Save everything."""

    def measured(self, point: Point) -> None:
        """A new entry of the curves."""


@dataclass
class Meter:
    """Means of the losses since the last entry of the curves."""

    rows: list[np.ndarray] = field(default_factory=list)
    latest: float = 0.0

    def add(self, losses: np.ndarray) -> None:
        self.rows.append(losses)
        self.latest = float(losses[0])

    def point(self, *, step: int, rate: float, metrics: Metrics | None) -> Point:
        total, classification, box = (float(v) for v in np.mean(self.rows, axis=0))
        self.rows = []
        return Point(
            step=step,
            loss=total,
            classification_loss=classification,
            box_loss=box,
            learning_rate=rate,
            ap50=metrics.ap50 if metrics else None,
            ap=metrics.ap if metrics else None,
        )


@contextmanager
def prefetched(pictures: Pictures, steps: range) -> Iterator[Iterator[tuple[int, Batch]]]:
    """The batches of `steps`, each made while the one before is in use."""

    def batches() -> Iterator[tuple[int, Batch]]:
        following = pool.submit(pictures.batch, steps.start) if len(steps) else None
        for step in steps:
            assert following is not None
            batch = following.result()
            following = pool.submit(pictures.batch, step + 1) if step + 1 < steps.stop else None
            yield step, batch

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        yield batches()


def thinned(examples: Sequence[Item], most: int = MOST_MEASURED) -> list[Item]:
    """At most `most` of them, evenly spread."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(most, len(examples))).round().astype(int))
    return [examples[i] for i in chosen]


class TrainingLoop:
    """One training from where `progression` stands to its end."""

    def __init__(
        self,
        *,
        plan: Plan,
        trainer: Trainer,
        pictures: Pictures,
        validation: Sequence[Example],
        classes: Sequence[str],
        keeper: Keeper,
        report: Callable[[Progress], None],
        check_stop: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._trainer = trainer
        self._pictures = pictures
        self._validation = thinned(validation)
        self._classes = classes
        self._keeper = keeper
        self._report = report
        self._check_stop = check_stop
        self._clock = clock
        self._reported = -REPORT_SECONDS
        # After the first step, which traces the graph and says nothing of the others' pace: its number and time.
        self._pace_from: tuple[int, float] | None = None
        self._curve_every = max(1, plan.steps // CURVE_POINTS)

    def run(self, progression: Progression) -> Progression:
        """Train to the last step, to an early end, or until asked to stop.

        Raises:
            ModelError: TrainingDiverged. Interrupted: asked to stop; the state is saved.
        """
        watch, meter = DivergenceWatch(peak=self._plan.schedule.peak), Meter()
        start, before = self._clock(), progression.seconds
        if self._gave_up(progression):
            return progression
        with prefetched(self._pictures, range(progression.step, self._plan.steps)) as batches:
            for step, batch in batches:
                rate = self._plan.schedule.rate(step)
                losses = self._trainer.step(batch, position=step, rate=rate, side=self._plan.sizes.at(step))
                watch.see(float(losses[0]), step=step + 1)
                meter.add(losses)
                progression = replace(progression, step=step + 1, seconds=before + self._clock() - start)
                progression = self._after_step(progression, meter, rate=rate)
                if self._gave_up(progression):
                    logger.info("step %s: no better AP50 in %s measurements, ended early", step + 1, progression.stale)
                    break
        return progression

    def _after_step(self, progression: Progression, meter: Meter, *, rate: float) -> Progression:
        step, last = progression.step, progression.step == self._plan.steps
        measure = last or step % self._plan.eval_every == 0
        metrics = self._measure() if measure else None
        if metrics is not None:
            progression = self._judged(progression, metrics)
        if measure or step % self._curve_every == 0:
            point = meter.point(step=step, rate=rate, metrics=metrics)
            progression = replace(progression, history=(*progression.history, point))
            self._keeper.measured(point)
        ended = last or self._gave_up(progression)
        saved = ended or step % self._plan.checkpoint_every == 0
        if saved:
            self._keeper.checkpoint(progression)
        self._tell(progression, loss=meter.latest)
        if not ended:
            self._stop_if_asked(progression, saved=saved)
        return progression

    def _gave_up(self, progression: Progression) -> bool:
        return self._plan.patience is not None and progression.stale >= self._plan.patience

    def _stop_if_asked(self, progression: Progression, *, saved: bool) -> None:
        try:
            self._check_stop()
        except Interrupted:
            if not saved:
                self._keeper.checkpoint(progression)
            raise

    def _measure(self) -> Metrics:
        return evaluate(
            examples=self._validation,
            detections=self._trainer.detect_averaged(self._validation),
            classes=self._classes,
            side=self._trainer.settings.input_side,
        )

    def _judged(self, progression: Progression, metrics: Metrics) -> Progression:
        """Keep the weights if they are the best; the first measurement always is."""
        if progression.best is not None and metrics.ap50 <= progression.best.ap50:
            return replace(progression, stale=progression.stale + 1)
        self._keeper.keep_best(progression.step)
        return replace(progression, best=Best(progression.step, metrics.ap50), stale=0)

    def _tell(self, progression: Progression, *, loss: float) -> None:
        """One progress line every few seconds, and at the end."""
        now, step, total = self._clock(), progression.step, self._plan.steps
        self._pace_from = self._pace_from or (step, now)
        if now - self._reported < REPORT_SECONDS and step != total:
            return
        self._reported = now
        self._report(
            Progress(
                percent=round(100.0 * step / total, 1),
                message="training",
                step=step,
                total_steps=total,
                loss=round(loss, 4),
                ap50=round(progression.best.ap50, 4) if progression.best else None,
                eta_seconds=self._seconds_left(step, now),
            )
        )

    def _seconds_left(self, step: int, now: float) -> float | None:
        begun, begun_at = self._pace_from or (step, now)
        done = step - begun
        return round((now - begun_at) / done * (self._plan.steps - step), 1) if done else None
