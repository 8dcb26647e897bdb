"""The train stage: from a converted dataset to the best weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.dataset import Dataset
from atoll_contract.document import DecodeError, from_json, replace, to_json
from atoll_contract.errors import DatasetError, IntegrityError, Reason, SpecError
from atoll_contract.stage import Accelerator, Stage, TrainSpec
from atoll_contract.stage_result import Artifact, Progress
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.checkpoints import CheckpointStore
from atoll_stages.train.config import Plan, make_plan, settings_in_words
from atoll_stages.train.dataset import Example, Pictures, Records, canvas_side
from atoll_stages.train.devices import Devices, find_devices
from atoll_stages.train.history import EventFile, History, Point, Progression
from atoll_stages.train.initial_weights import About, Start, load_start, values_of, write_weights
from atoll_stages.train.loop import TrainingLoop
from atoll_stages.train.trainer import Trainer

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.weights.h5"
HISTORY_NAME = "history.json"


def read_dataset(context: StageContext) -> Dataset:
    """The `dataset.json` of the run.

    Raises:
        IntegrityError: it is not the document that convert wrote.
    """
    artifact = context.input.artifact(Stage.CONVERT, "dataset")
    path = context.fetch(artifact, context.work / "dataset.json")
    try:
        return from_json(Dataset, path.read_bytes())
    except DecodeError as error:
        raise IntegrityError(f"{artifact.key} cannot be read: {error}") from None


def fetch_split(context: StageContext, dataset: Dataset, split: str) -> Records:
    """The records of one part of the dataset, on the local disk.

    Raises:
        DatasetError: NoUsableExamples, the part is missing or empty.
    """
    part = dataset.splits.get(split)
    if part is None or not part.pictures:
        raise DatasetError(
            Reason.NO_USABLE_EXAMPLES,
            f"the dataset has no pictures in its {split} part; check conversion.split ({dataset.split_by})",
        )
    folder = context.work / split
    return Records([context.fetch(shard, folder / f"{i:05d}.tfrecord") for i, shard in enumerate(part.shards)])


@dataclass
class StageKeeper:
    """Keeps the loop's results in the run's checkpoint folder; the events in the attempt's."""

    context: StageContext
    checkpoints: CheckpointStore
    trainer: Trainer
    about: About
    events: EventFile

    def keep_best(self, step: int) -> None:
        path = self.context.work / "best.weights.h5"
        with self.trainer.average.applied():
            write_weights(path, values_of(self.trainer.model), replace(self.about, step=step))
        self.context.store.upload(self.checkpoints.weights_key(step), path)

    def checkpoint(self, progression: Progression) -> None:
        self.checkpoints.save(self.trainer.state(), progression, work=self.context.work)
        self.context.store.upload(f"{self.context.prefix}tensorboard/{self.events.path.name}", self.events.path)

    def measured(self, point: Point) -> None:
        values = {
            "loss/total": point.loss,
            "loss/classification": point.classification_loss,
            "loss/box": point.box_loss,
            "learning_rate": point.learning_rate,
        }
        if point.ap50 is not None and point.ap is not None:
            values |= {"validation/AP50": point.ap50, "validation/AP": point.ap}
        self.events.scalars(values, step=point.step)


def train(context: StageContext) -> StageOutcome:
    """Train the detector that the run describes.

    Raises:
        AtollError: with the reason. Interrupted: asked to end; the next attempt goes on from the checkpoint.
    """
    spec = context.input.train
    if spec is None:
        raise SpecError("the stage input has no section train")
    dataset = read_dataset(context)
    plan = make_plan(spec, classes=len(dataset.classes), dataset_digest=dataset.digest)
    context.report(Progress(0, message="reading the dataset", total_steps=plan.steps))
    with fetch_split(context, dataset, "train") as examples, fetch_split(context, dataset, "validation") as validation:
        return _train(context, spec, dataset, plan, examples=examples, validation=validation)


def _train(
    context: StageContext,
    spec: TrainSpec,
    dataset: Dataset,
    plan: Plan,
    *,
    examples: Sequence[Example],
    validation: Sequence[Example],
) -> StageOutcome:
    devices = find_devices(spec.accelerator)
    trainer = _trainer(plan, devices)
    about = About(spec.architecture, spec.width, dataset.class_names)
    checkpoints = CheckpointStore(context.store, keys.checkpoints_prefix(context.input.run), plan.fingerprint)
    start = load_start(trainer.model, spec.init_from, about=about, store=context.store, work=context.work)
    trainer.average.reset()
    progression = checkpoints.restore(trainer.state(), work=context.work) or Progression()
    if progression.step:
        logger.warning("going on from the checkpoint of step %s", progression.step)
    pictures = Pictures(
        examples,
        side=canvas_side(spec.architecture.side, count=len(examples)),
        batch=plan.batch,
        seed=spec.seed,
    )
    events = context.work / f"events.out.tfevents.{int(time.time())}.{context.input.attempt}"
    with EventFile(events) as file:
        loop = TrainingLoop(
            plan=plan,
            trainer=trainer,
            pictures=pictures,
            validation=validation,
            classes=dataset.class_names,
            keeper=StageKeeper(context, checkpoints, trainer, about, file),
            report=context.report,
            check_stop=context.check_stop,
        )
        progression = loop.run(progression)
    pictures.close()
    return _outcome(context, plan, checkpoints, start=start, devices=devices, trainer=trainer, progression=progression)


def _trainer(plan: Plan, devices: Devices) -> Trainer:
    import keras

    if plan.batch % devices.replicas:
        raise SpecError(f"batchSize {plan.batch} cannot be shared evenly by {devices.replicas} GPUs; choose a multiple")
    keras.config.set_dtype_policy("mixed_bfloat16" if devices.mixed_precision else "float32")
    return Trainer(plan.trainer, devices.strategy)


def _outcome(
    context: StageContext,
    plan: Plan,
    checkpoints: CheckpointStore,
    *,
    start: Start,
    devices: Devices,
    trainer: Trainer,
    progression: Progression,
) -> StageOutcome:
    best = progression.best
    if best is None:
        raise IntegrityError("the training ended without a measurement; its checkpoint is not of this run")
    weights = context.work / WEIGHTS_NAME
    info = context.store.download(checkpoints.weights_key(best.step), weights)
    history = History(
        start=start.words,
        accelerator=_accelerator_words(devices),
        steps=plan.steps,
        step=progression.step,
        best=best,
        images_per_second=round(plan.batch * progression.step / max(progression.seconds, 1e-9), 2),
        seconds=round(progression.seconds, 1),
        parameters=trainer.model.count_params(),
        settings=settings_in_words(plan),
        points=progression.history,
    )
    path = context.work / HISTORY_NAME
    path.write_bytes(to_json(history))
    outputs = (
        Artifact("weights", info.key, info.sha256 or "", info.size),
        context.save("history", path),
    )
    return StageOutcome(
        message=f"step {progression.step}/{plan.steps}, validation AP50 {best.ap50:.3f} at step {best.step}, "
        f"from {start.words}",
        outputs=outputs,
        summary={
            "step": progression.step,
            "bestStep": best.step,
            "ap50": round(best.ap50, 4),
            "initFrom": start.words,
            "imagesPerSecond": history.images_per_second,
            "accelerator": str(devices.kind),
            "trainSeconds": history.seconds,
        },
    )


def _accelerator_words(devices: Devices) -> str:
    if devices.kind is Accelerator.CPU:
        return "CPU"
    precision = "bfloat16 and float32" if devices.mixed_precision else "float32"
    return f"{devices.replicas} GPU, {precision}"
