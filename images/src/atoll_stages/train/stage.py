"""The train stage: trains a detector on the converted dataset, and stores its best weights and its history."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import keras

from atoll_contract import keys
from atoll_contract.dataset import Dataset
from atoll_contract.document import replace, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.stage_result import UNLOADED_SECONDS, Artifact, Progress
from atoll_contract.train_spec import Accelerator, TrainSpec
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.checkpoints import CheckpointStore, state_digest
from atoll_stages.train.config import TrainConfig, describe_config, make_config
from atoll_stages.train.dataset import BatchLoader, Example, canvas_side, fetch_split, read_dataset
from atoll_stages.train.devices import Devices, find_devices
from atoll_stages.train.history import EventFile, History, Point, Progression
from atoll_stages.train.initial_weights import ModelInfo, load_initial_weights, weights_by_path, write_weights
from atoll_stages.train.loop import TrainingLoop, follow
from atoll_stages.train.trainer import Trainer
from atoll_stages.train.unloaded_time import UnloadedTime
from atoll_stages.train.workers import Workers

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.weights.h5"
HISTORY_NAME = "history.json"


def train(context: StageContext) -> StageOutcome:
    """Trains the detector that the run describes.

    Raises:
        AtollError: with the reason. Interrupted: the stage is to end; the next attempt resumes from the checkpoint.
    """
    spec = context.input.train
    if spec is None:
        raise SpecError("the stage input has no section train")
    dataset = read_dataset(context)
    spec, config = _settings(context, spec, dataset)
    context.report(Progress(0, message="reading the dataset", total_steps=config.steps))
    with fetch_split(context, dataset, "train") as examples, fetch_split(context, dataset, "validation") as validation:
        session = TrainingSession(context, spec, dataset, config)
        progression = session.run(examples, validation)
        if progression is None:
            return StageOutcome("the first worker has the result")
        return session.outcome(progression)


def _settings(context: StageContext, spec: TrainSpec, dataset: Dataset) -> tuple[TrainSpec, TrainConfig]:
    """Returns the run's settings: as they are written, or for a training that a version without presets has begun,
    those that it began with."""
    train = dataset.splits.get("train")
    images, boxes = (train.pictures, train.boxes) if train else (0, 0)
    classes = len(dataset.classes)
    config = make_config(spec, classes=classes, dataset_digest=dataset.digest, images=images, boxes=boxes)
    former = replace(spec, preset=None, max_steps=None)
    if former == spec:
        return spec, config
    former_config = make_config(former, classes=classes, dataset_digest=dataset.digest)
    prefix = keys.checkpoints_prefix(context.input.run, adopt_from=context.input.adopt_from)
    begun = CheckpointStore(context.store, prefix, config.fingerprint).newest_fingerprint(work=context.work)
    if begun != former_config.fingerprint:
        return spec, config
    logger.warning("a version without training.preset has begun this training; it goes on as it began")
    return former, former_config


class TrainingSession:
    """One attempt of a training.

    It implements `TrainerCallbacks`: weights and checkpoints go to the run's checkpoint folder, which the attempts
    share, and TensorBoard's events to the attempt's.
    """

    def __init__(self, context: StageContext, spec: TrainSpec, dataset: Dataset, config: TrainConfig) -> None:
        self._context = context
        self._spec = spec
        self._config = config
        self._info = ModelInfo(spec.architecture, spec.width, dataset.class_names)
        # TensorFlow connects workers only before its first operation.
        self._workers = Workers(context.input.worker_addresses or (), context.worker)
        self._devices = find_devices(spec.accelerator, self._workers).with_precision(config.mixed_precision)
        self._trainer = _create_trainer(config, self._devices, self._workers)
        prefix = keys.checkpoints_prefix(context.input.run, adopt_from=context.input.adopt_from)
        self._checkpoints = CheckpointStore(context.store, prefix, config.fingerprint)
        self._initial_weights = load_initial_weights(
            self._trainer.model, spec.init_from, info=self._info, store=context.store, work=context.work
        )
        self._trainer.average.reset()
        self._saved_step: int | None = None
        self._progress = Progress(0.0)
        self._measured = UnloadedTime(self._devices.kind is Accelerator.CPU)
        self._first_step = 0

    def run(self, examples: Sequence[Example], validation: Sequence[Example]) -> Progression | None:
        """Trains from the newest checkpoint, or from the initial weights; returns None on other workers than the
        first."""
        context = self._context
        progression = self._checkpoints.restore(self._trainer.state(), work=context.work) or Progression()
        if progression.step:
            self._saved_step = progression.step
            logger.warning("going on from the checkpoint of step %s", progression.step)
        progression = progression.with_workers(self._workers.count)
        cache_bytes = self._config.cache_bytes
        side = canvas_side(self._spec.architecture.side, count=len(examples), cache_bytes=cache_bytes)
        events = context.work / f"events.out.tfevents.{int(time.time())}.{context.input.attempt}"
        rows = self._workers.rows(self._config.batch_size)
        with (
            BatchLoader(
                examples,
                side=side,
                batch_size=self._config.batch_size,
                sampling=self._config.sampling,
                rows=rows,
                cache_bytes=cache_bytes,
                resize=self._spec.resize,
            ) as loader,
            EventFile(events) as self._events,
        ):
            if not self._workers.is_first:
                follow(
                    config=self._config,
                    trainer=self._trainer,
                    loader=loader,
                    progression=progression,
                    on_stored=self._report_stored,
                    check_stop=context.check_stop,
                )
                self._log_state()
                return None
            loop = TrainingLoop(
                config=self._config,
                trainer=self._trainer,
                loader=loader,
                validation=validation,
                classes=self._info.classes,
                callbacks=self,
            )
            self._first_step = progression.step
            self._measured.begin()
            progression = loop.run(progression)
            if self._workers.count > 1:
                self._log_state()
            return progression

    def _report_stored(self, step: int) -> None:
        """The engine learns it from this worker if it is killed and the first one's pod is gone with it."""
        total = self._config.steps
        percent = round(100.0 * step / total, 1)
        self._context.report(Progress(percent, "training", total_steps=total, checkpoint_step=step))

    def _log_state(self) -> None:
        """So that the logs of the workers can be compared."""
        logger.info("worker %s ends with state %s", self._workers.index, state_digest(self._trainer.state()))

    def on_best(self, step: int) -> None:
        path = self._context.work / "best.weights.h5"
        with self._trainer.average.applied():
            write_weights(path, weights_by_path(self._trainer.model), replace(self._info, step=step))
        self._context.store.upload(self._checkpoints.weights_key(step), path)

    def on_checkpoint(self, progression: Progression) -> None:
        self._checkpoints.save(self._trainer.state(), progression, work=self._context.work)
        self._saved_step = progression.step
        # The engine is to know of the checkpoint, whatever happens before the next progress is due.
        self._report()
        path = self._events.path
        self._context.store.upload(f"{self._context.prefix}tensorboard/{path.name}", path)

    def on_point(self, point: Point) -> None:
        values = {
            "loss/total": point.loss,
            "loss/classification": point.classification_loss,
            "loss/box": point.box_loss,
            "learning_rate": point.learning_rate,
        }
        if point.ap50 is not None and point.ap is not None:
            values |= {"validation/AP50": point.ap50, "validation/AP": point.ap}
        self._events.write_scalars(values, step=point.step)

    def on_progress(self, progress: Progress) -> None:
        self._measured.end()
        self._progress = progress
        self._report()

    def _report(self) -> None:
        self._context.report(replace(self._progress, checkpoint_step=self._saved_step))

    def check_stop(self) -> None:
        self._context.check_stop()

    def outcome(self, progression: Progression) -> StageOutcome:
        """Stores the history, and returns the outcome with the best weights.

        Raises:
            IntegrityError: there are no best weights.
        """
        best = progression.best
        if best is None:
            raise IntegrityError("the training ended without a measurement; its checkpoint is not of this run")
        context, config = self._context, self._config
        weights = context.store.download(self._checkpoints.weights_key(best.step), context.work / WEIGHTS_NAME)
        history = History(
            start=self._initial_weights,
            accelerator=_describe_devices(self._devices, self._workers.count),
            steps=config.steps,
            step=progression.step,
            best=best,
            images_per_second=round(config.batch_size * progression.step / max(progression.seconds, 1e-9), 2),
            seconds=round(progression.seconds, 1),
            parameters=self._trainer.model.count_params(),
            settings=describe_config(config) | progression.describe_workers(),
            points=progression.history,
        )
        path = context.work / HISTORY_NAME
        path.write_bytes(to_json(history))
        return StageOutcome(
            message=f"step {progression.step}/{config.steps}, validation AP50 {best.ap50:.3f} at step {best.step}, "
            f"from {self._initial_weights}",
            outputs=(
                Artifact("weights", weights.key, weights.sha256 or "", weights.size),
                context.save("history", path),
            ),
            summary={
                "step": progression.step,
                "bestStep": best.step,
                "ap50": round(best.ap50, 4),
                "initFrom": self._initial_weights,
                "imagesPerSecond": history.images_per_second,
                "accelerator": str(self._devices.kind),
                "trainSeconds": history.seconds,
                UNLOADED_SECONDS: self._unloaded_seconds(progression.step),
            },
        )

    def _unloaded_seconds(self, last_step: int) -> int:
        """Returns how long all steps of the training would take where nothing else runs, and its start."""
        steps = last_step - self._first_step
        if steps <= 0:
            return 0
        return round(self._measured.cpu_before + self._measured.total() * last_step / steps)


def _create_trainer(config: TrainConfig, devices: Devices, workers: Workers) -> Trainer:
    if config.batch_size % devices.replicas:
        shared = f"{devices.replicas} GPUs" if workers.count == 1 else f"{workers.count} workers with their GPUs"
        raise SpecError(f"batchSize {config.batch_size} cannot be shared evenly by {shared}; choose a multiple")
    keras.config.set_dtype_policy("mixed_bfloat16" if devices.mixed_precision else "float32")
    return Trainer(config.trainer, devices.strategy, workers)


def _describe_devices(devices: Devices, workers: int) -> str:
    on_workers = f"{workers} workers: " if workers > 1 else ""
    if devices.kind is Accelerator.CPU:
        return f"{on_workers}CPU"
    precision = "bfloat16 and float32" if devices.mixed_precision else "float32"
    return f"{on_workers}{devices.replicas} GPU, {precision}"
