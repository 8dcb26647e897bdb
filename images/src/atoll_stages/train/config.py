"""The string settings of `training.hyperparameters`: Atoll's finer ones, and names of the seed that are accepted.

The engine has put the seed's numbers into their typed fields already (`atoll_contract.stage.SEED_NAMES`).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from atoll_contract.document import to_json
from atoll_contract.errors import SpecError
from atoll_contract.stage import SEED_NAMES, Architecture, InitFrom, TrainSpec
from atoll_stages.train.augment import Augmentation
from atoll_stages.train.optimizer import Schedule, Sizes
from atoll_stages.train.trainer import TrainerSettings

logger = logging.getLogger(__name__)

# Names of the seed whose work another part of a run does; accepted, so that an old file can be handed over whole.
ELSEWHERE = {
    "percent-eval": "conversion.split",
    "percent_eval": "conversion.split",
    "dataset-path": "datasets",
    "checkpoint": "training.initFrom",
    "model": "model.architecture",
    "name": "metadata.name",
}


@dataclass(frozen=True)
class Tuning:
    """Settings without a typed field. Defaults suit a few hundred to some thousand pictures.

    `small_side` × the input side is the picture size of the first `small_share` of the steps. `frozen_blocks`
    counts blocks of the backbone that keep their start weights.
    """

    weight_decay: float = 5e-4
    ema_decay: float = 0.998
    backbone_rate: float = 1.0
    frozen_blocks: int = 0
    small_side: float = 0.7
    small_share: float = 0.6
    horizontal_flip: bool = True
    vertical_flip: bool = False
    min_zoom: float = 0.7
    max_zoom: float = 1.2


@dataclass(frozen=True)
class _Range:
    field: str
    low: float
    high: float


_NUMBERS = {
    "weight-decay": _Range("weight_decay", 0.0, 0.1),
    "ema-decay": _Range("ema_decay", 0.0, 0.99999),
    "backbone-learning-rate-factor": _Range("backbone_rate", 0.0, 10.0),
    "frozen-blocks": _Range("frozen_blocks", 0, 16),
    "small-side": _Range("small_side", 0.3, 1.0),
    "small-share": _Range("small_share", 0.0, 1.0),
    "augment-min-zoom": _Range("min_zoom", 0.2, 1.0),
    "augment-max-zoom": _Range("max_zoom", 1.0, 3.0),
}
_SWITCHES = {"augment-horizontal-flip": "horizontal_flip", "augment-vertical-flip": "vertical_flip"}
_WHOLE = {"frozen_blocks"}


def known_names() -> list[str]:
    """Every name that is understood, sorted."""
    seed_names = (name for names, _ in SEED_NAMES.values() for name in names)
    return sorted({*seed_names, *ELSEWHERE, *_NUMBERS, *_SWITCHES})


def _number(name: str, text: str, allowed: _Range) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not allowed.low <= value <= allowed.high:
        raise SpecError(
            f'hyperparameters["{name}"] is {text[:40]!r}; it must be a number from {allowed.low} to {allowed.high}'
        )
    return value


def _switch(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise SpecError(f'hyperparameters["{name}"] is {text[:40]!r}; it must be "true" or "false"')
    return text.lower() == "true"


def read_tuning(values: Mapping[str, str]) -> Tuning:
    """The settings without a typed field.

    Raises:
        SpecError: a name is unknown, or a value is out of its range.
    """
    changed: dict[str, float | bool] = {}
    for name, text in values.items():
        if name in _NUMBERS:
            number = _number(name, text, _NUMBERS[name])
            changed[_NUMBERS[name].field] = int(number) if _NUMBERS[name].field in _WHOLE else number
        elif name in _SWITCHES:
            changed[_SWITCHES[name]] = _switch(name, text)
        elif name in ELSEWHERE:
            logger.warning("hyperparameter %s is not used in training: see %s", name, ELSEWHERE[name])
        elif name not in known_names():
            raise SpecError(f'hyperparameters["{name}"] is unknown; known are {", ".join(known_names())}')
    return replace(Tuning(), **changed)  # type: ignore[arg-type]  # names and types come from the tables above


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


def settings_in_words(plan: Plan) -> Mapping[str, str]:
    """Every number of the plan under one flat name each, for the report."""
    trainer, augmentation = plan.trainer, plan.trainer.augmentation
    values = {
        "architecture": str(trainer.architecture),
        "width": trainer.width,
        "steps": plan.steps,
        "batch size": plan.batch,
        "peak learning rate": plan.schedule.peak,
        "warm-up steps": plan.schedule.warmup,
        "weight decay": trainer.weight_decay,
        "EMA decay": trainer.ema_decay,
        "backbone learning rate factor": trainer.backbone_factor,
        "frozen blocks": trainer.frozen_blocks,
        "first picture side": plan.sizes.first,
        "share of steps at the first side": plan.sizes.share,
        "zoom": f"{augmentation.zoom[0]} to {augmentation.zoom[1]}",
        "horizontal flip": augmentation.horizontal_flip,
        "vertical flip": augmentation.vertical_flip,
        "brightness": augmentation.brightness,
        "contrast": f"{augmentation.contrast[0]} to {augmentation.contrast[1]}",
        "saturation": f"{augmentation.saturation[0]} to {augmentation.saturation[1]}",
        "hue": augmentation.hue,
        "cut-out": augmentation.cutout,
        "seed": trainer.seed,
        "evaluate every": plan.eval_every,
        "checkpoint every": plan.checkpoint_every,
        "early stopping patience": "none" if plan.patience is None else plan.patience,
    }
    return {name: str(value) for name, value in values.items()}
