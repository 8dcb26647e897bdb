"""Every number of a training, resolved from what the run says."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from atoll_contract.codec import to_json
from atoll_contract.stage import Architecture, InitFrom, TrainSpec
from atoll_stages.train.augment import Augmentation
from atoll_stages.train.hyperparameters import Tuning, read_tuning, with_seed_names
from atoll_stages.train.schedule import Schedule, Sizes
from atoll_stages.train.trainer import TrainerSettings

# Peak learning rates of AdamW for a batch of 8; they grow with the root of the batch.
RATE_PRETRAINED, RATE_RANDOM = 1.5e-3, 3e-3
RATE_BATCH = 8
EVALUATIONS = 6
MIN_EVALUATION_STEPS = 25


@dataclass(frozen=True)
class Plan:
    """What the loop does. `fingerprint` names the settings and the dataset: checkpoints of others do not count."""

    trainer: TrainerSettings
    schedule: Schedule
    sizes: Sizes
    steps: int
    batch: int
    eval_every: int
    checkpoint_every: int
    patience: int | None
    fingerprint: str


def learning_rate(spec: TrainSpec) -> float:
    """The peak rate: the run's, or the default of its start weights and batch size."""
    if spec.learning_rate is not None:
        return spec.learning_rate
    base = RATE_RANDOM if spec.init_from.type is InitFrom.RANDOM else RATE_PRETRAINED
    return base * math.sqrt(spec.batch_size / RATE_BATCH)


def _augmentation(tuning: Tuning) -> Augmentation:
    return Augmentation(
        zoom=(tuning.min_zoom, tuning.max_zoom),
        horizontal_flip=tuning.horizontal_flip,
        vertical_flip=tuning.vertical_flip,
    )


def make_plan(spec: TrainSpec, *, classes: int, dataset_digest: str) -> Plan:
    """Resolve the run's settings.

    Raises:
        SpecError: a hyperparameter is unknown or out of its range.
    """
    spec = with_seed_names(spec)
    tuning = read_tuning(spec.hyperparameters)
    fixed_size = spec.architecture is Architecture.SSD_300
    evaluation = spec.eval_every_steps or max(MIN_EVALUATION_STEPS, math.ceil(spec.steps / EVALUATIONS))
    settings = TrainerSettings(
        architecture=spec.architecture,
        width=spec.width,
        classes=classes,
        seed=spec.seed,
        weight_decay=tuning.weight_decay,
        backbone_factor=tuning.backbone_rate,
        frozen_blocks=tuning.frozen_blocks,
        ema_decay=tuning.ema_decay,
        augmentation=_augmentation(tuning),
    )
    return Plan(
        trainer=settings,
        schedule=Schedule(learning_rate(spec), spec.steps),
        sizes=Sizes(
            spec.architecture.side,
            spec.steps,
            small=1.0 if fixed_size else tuning.small_side,
            share=tuning.small_share,
        ),
        steps=spec.steps,
        batch=spec.batch_size,
        eval_every=evaluation,
        checkpoint_every=spec.checkpoint_every_steps or evaluation,
        patience=spec.early_stopping_patience,
        fingerprint=hashlib.sha256(to_json(spec) + dataset_digest.encode()).hexdigest(),
    )
