"""The training loop: steps, evaluations, checkpoints, early stopping."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from atoll_contract.document import replace
from atoll_contract.stage_result import Progress
from atoll_stages.runtime.context import Interrupted
from atoll_stages.train.config import TrainConfig
from atoll_stages.train.dataset import Batch, BatchLoader, Example, evenly_spaced
from atoll_stages.train.evaluate import Metrics, evaluate
from atoll_stages.train.history import Best, DivergenceMonitor, Point, Progression, step_quality
from atoll_stages.train.trainer import Trainer

logger = logging.getLogger(__name__)

# Validation images that are evaluated while training; the export stage evaluates all.
MAX_VALIDATION_IMAGES = 250
REPORT_SECONDS = 2.0
CURVE_POINTS = 200


class TrainerCallbacks(Protocol):
    """The functions that the loop calls after a step."""

    def on_best(self, step: int) -> None:
        """The averaged weights are the best so far."""

    def on_checkpoint(self, progression: Progression) -> None:
        """The whole state is to be saved."""

    def on_point(self, point: Point) -> None:
        """The curves have a new entry."""

    def on_progress(self, progress: Progress) -> None:
        """Called every few seconds, and after the last step."""

    def check_stop(self) -> None:
        """Raises Interrupted if the training is to stop."""


class TrainingLoop:
    """One training, from a `Progression` to its end, on its only worker or on the first one of several."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        trainer: Trainer,
        loader: BatchLoader,
        validation: Sequence[Example],
        classes: Sequence[str],
        callbacks: TrainerCallbacks,
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._loader = loader
        self._validation = evenly_spaced(validation, MAX_VALIDATION_IMAGES)
        self._classes = classes
        self._callbacks = callbacks
        self._reported = -REPORT_SECONDS
        # Number and time of the first step of this process: it traces the graph, so the estimate counts from its end.
        self._first_step: tuple[int, float] | None = None
        self._curve_every = max(1, config.steps // CURVE_POINTS)
        self._interrupted = False

    def run(self, progression: Progression) -> Progression:
        """Trains to the last step, or until early stopping ends it.

        Raises:
            ModelError: TrainingDiverged. Interrupted: the training is to stop; its state is saved.
        """
        config = self._config
        monitor, meter = DivergenceMonitor(peak=config.learning_rate.peak), LossMeter()
        start, seconds_before = time.monotonic(), progression.seconds
        if stops_early(config, progression):
            return progression
        several = self._trainer.workers.count > 1
        with prefetched(self._loader, range(progression.step, config.steps)) as batches:
            for step, batch in batches:
                rate = config.learning_rate.at(step)
                interrupted = several and stop_requested(self._callbacks.check_stop)
                losses, self._interrupted = step_with_others(
                    self._trainer, config, batch, step=step, interrupted=interrupted
                )
                monitor.update(float(losses[0]), step=step + 1)
                meter.add(losses)
                seconds = seconds_before + time.monotonic() - start
                progression = replace(progression, step=step + 1, seconds=seconds)
                progression = self._after_step(progression, meter, rate=rate)
                early = stops_early(config, progression)
                # After a step in which one was interrupted, the others have left.
                if several and may_end(config, step + 1) and not self._interrupted:
                    self._trainer.any_ended(ended=early or step + 1 == config.steps)
                if early:
                    logger.info("step %s: no better step in %s measurements, ended early", step + 1, progression.stale)
                    break
        return progression

    def _after_step(self, progression: Progression, meter: LossMeter, *, rate: float) -> Progression:
        step, last = progression.step, progression.step == self._config.steps
        metrics = self._evaluate() if last or step % self._config.eval_every == 0 else None
        if metrics is not None:
            progression = self._update_best(progression, metrics)
        if metrics is not None or step % self._curve_every == 0:
            point = meter.point(step=step, rate=rate, metrics=metrics)
            progression = replace(progression, history=(*progression.history, point))
            self._callbacks.on_point(point)
        ended = last or stops_early(self._config, progression)
        saved = ended or step % self._config.checkpoint_every == 0
        if saved:
            self._callbacks.on_checkpoint(progression)
        self._report_progress(progression, loss=meter.latest)
        if not ended:
            self._check_stop(progression, saved=saved)
        return progression

    def _evaluate(self) -> Metrics:
        return evaluate(
            examples=self._validation,
            detections=self._trainer.detect_averaged(self._validation),
            classes=self._classes,
            side=self._trainer.settings.input_side,
            resize=self._trainer.settings.resize,
        )

    def _update_best(self, progression: Progression, metrics: Metrics) -> Progression:
        """Keeps the weights if they are the best; those of the first evaluation always are."""
        known = progression.best_quality
        if known is not None and step_quality(metrics.ap50, metrics.ap) <= known:
            return replace(progression, stale=progression.stale + 1)
        self._callbacks.on_best(progression.step)
        return replace(progression, best=Best(progression.step, metrics.ap50), stale=0)

    def _check_stop(self, progression: Progression, *, saved: bool) -> None:
        try:
            if self._trainer.workers.count == 1:
                self._callbacks.check_stop()
            elif self._interrupted:
                raise Interrupted
        except Interrupted:
            if not saved:
                self._callbacks.on_checkpoint(progression)
            raise

    def _report_progress(self, progression: Progression, *, loss: float) -> None:
        now, step, total = time.monotonic(), progression.step, self._config.steps
        self._first_step = self._first_step or (step, now)
        # An engine that reads the newest line alone would miss an improvement that the next one hides.
        improved = progression.best is not None and progression.best.step == step
        if now - self._reported < REPORT_SECONDS and step != total and not improved:
            return
        self._reported = now
        first, first_time = self._first_step
        remaining = (now - first_time) / (step - first) * (total - step) if step > first else None
        self._callbacks.on_progress(
            Progress(
                percent=round(100.0 * step / total, 1),
                message="training",
                step=step,
                total_steps=total,
                loss=round(loss, 4),
                ap50=round(progression.best.ap50, 4) if progression.best else None,
                eta_seconds=None if remaining is None else round(remaining, 1),
                best_step=progression.best.step if progression.best else None,
            )
        )


def follow(
    *,
    config: TrainConfig,
    trainer: Trainer,
    loader: BatchLoader,
    progression: Progression,
    on_stored: Callable[[int], None],
    check_stop: Callable[[], None],
) -> None:
    """Trains on another worker than the first, from the same `progression`, until that one ends the training. It
    measures and writes nothing. `on_stored` is called with the step of each checkpoint once the first worker has it.

    Raises:
        ModelError: TrainingDiverged. Interrupted: a worker was asked to end. AtollError: PeerLost.
    """
    if stops_early(config, progression):
        return
    monitor = DivergenceMonitor(peak=config.learning_rate.peak)
    stored = progression.step
    if stored:
        on_stored(stored)
    with prefetched(loader, range(progression.step, config.steps)) as batches:
        for step, batch in batches:
            interrupted = stop_requested(check_stop)
            losses, interrupted = step_with_others(trainer, config, batch, step=step, interrupted=interrupted)
            # The first worker takes part in a step only after it has stored the checkpoint of the one before.
            if step > stored and step % config.checkpoint_every == 0:
                stored = step
                on_stored(stored)
            monitor.update(float(losses[0]), step=step + 1)
            if interrupted:
                raise Interrupted
            if may_end(config, step + 1) and trainer.any_ended(ended=False):
                on_stored(step + 1)
                return


def step_with_others(
    trainer: Trainer, config: TrainConfig, batch: Batch, *, step: int, interrupted: bool
) -> tuple[np.ndarray, bool]:
    """Takes the step with the rate and the side of its number, as `Trainer.train_step_together`."""
    rate, side = config.learning_rate.at(step), config.image_size.at(step)
    return trainer.train_step_together(batch, step=step, learning_rate=rate, side=side, interrupted=interrupted)


def may_end(config: TrainConfig, step: int) -> bool:
    """Whether the training may be over after so many steps, which the first worker alone knows once it has measured.

    All workers ask each other then. One more step to tell it with would change the weights.
    """
    measured = config.early_stopping_patience is not None and step % config.eval_every == 0
    return measured or step == config.steps


def stop_requested(check_stop: Callable[[], None]) -> bool:
    try:
        check_stop()
    except Interrupted:
        return True
    return False


def stops_early(config: TrainConfig, progression: Progression) -> bool:
    max_stale = config.early_stopping_patience
    return max_stale is not None and progression.stale >= max_stale


@dataclass
class LossMeter:
    """Means of the losses since the last entry of the curves."""

    rows: list[np.ndarray] = field(default_factory=list)
    latest: float = 0.0

    def add(self, losses: np.ndarray) -> None:
        self.rows.append(losses)
        self.latest = float(losses[0])

    def point(self, *, step: int, rate: float, metrics: Metrics | None) -> Point:
        """Returns an entry of the curves, and starts anew."""
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
def prefetched(loader: BatchLoader, steps: range) -> Iterator[Iterator[tuple[int, Batch]]]:
    """Gives the batches of `steps`; each is loaded while the one before is in use."""

    def batches() -> Iterator[tuple[int, Batch]]:
        following = pool.submit(loader.batch, steps.start) if len(steps) else None
        for step in steps:
            assert following is not None
            batch = following.result()
            following = pool.submit(loader.batch, step + 1) if step + 1 < steps.stop else None
            yield step, batch

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        yield batches()
