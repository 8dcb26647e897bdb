"""The configuration of a training, resolved from the run's typed fields and its hyperparameters.

`training.hyperparameters` are strings: Atoll's finer settings, and names of the seed that are accepted. The engine has
put the seed's numbers into their typed fields already (`atoll_contract.train_spec.SEED_NAMES`).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from atoll_contract.document import replace, to_json
from atoll_contract.errors import SpecError
from atoll_contract.recipe import SMALL_SHARE, recipe, sufficient_steps
from atoll_contract.train_spec import SEED_NAMES, Architecture, InitFrom, TrainSpec, evaluation_interval
from atoll_stages.train.augment import Augmentation
from atoll_stages.train.dataset import CACHE_BYTES
from atoll_stages.train.optimizer import ImageSizeSchedule, LearningRateSchedule
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import TrainerSettings

logger = logging.getLogger(__name__)

# Peak learning rates of AdamW for a batch of 8; they grow with the root of the batch size.
PRETRAINED_LEARNING_RATE, RANDOM_LEARNING_RATE = 1.5e-3, 3e-3
BASE_BATCH_SIZE = 8

# Hyperparameters without a typed field: the field of `Hyperparameters`, and its minimum and maximum.
_NUMBERS = {
    "weight-decay": ("weight_decay", 0.0, 0.1),
    "ema-decay": ("ema_decay", 0.0, 0.99999),
    "backbone-learning-rate-factor": ("backbone_factor", 0.0, 10.0),
    "frozen-blocks": ("frozen_blocks", 0, 16),
    "small-side": ("small_side", 0.3, 1.0),
    "small-share": ("small_share", 0.0, 1.0),
    "augment-min-zoom": ("min_zoom", 0.2, 1.0),
    "augment-max-zoom": ("max_zoom", 1.0, 3.0),
    "repeat-threshold": ("repeat_threshold", 0.0, 1.0),
    "decoded-cache-mebibytes": ("cache_mebibytes", 0, 1 << 20),
}
_WHOLE_NUMBERS = {"frozen-blocks", "decoded-cache-mebibytes"}
_SWITCHES = {
    "augment-horizontal-flip": "horizontal_flip",
    "augment-vertical-flip": "vertical_flip",
    "mixed-precision": "mixed_precision",
    "xla": "xla",
}
# Names of the seed that other parts of a run replace; they are accepted, so that an old file can be used whole.
ELSEWHERE = {
    "percent-eval": "conversion.split",
    "percent_eval": "conversion.split",
    "dataset-path": "datasets",
    "checkpoint": "training.initFrom",
    "model": "model.architecture",
    "name": "metadata.name",
}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of the training loop; intervals are in steps.

    `fingerprint` names the settings and the dataset: checkpoints with another fingerprint are not resumed from.
    """

    trainer: TrainerSettings
    learning_rate: LearningRateSchedule
    image_size: ImageSizeSchedule
    steps: int
    batch_size: int
    eval_every: int
    checkpoint_every: int
    early_stopping_patience: int | None
    fingerprint: str
    # None: where the device computes faster with it.
    mixed_precision: bool | None = None
    cache_bytes: int = CACHE_BYTES
    repeat_threshold: float = 0.0

    @property
    def sampling(self) -> Sampling:
        """How examples are chosen for a batch."""
        return Sampling(self.trainer.seed, self.repeat_threshold)


def make_config(spec: TrainSpec, *, classes: int, dataset_digest: str, images: int = 0, boxes: int = 0) -> TrainConfig:
    """Resolves the run's settings, for a training on `images` pictures with so many boxes in all.

    Raises:
        SpecError: a hyperparameter is unknown or out of its range.
    """
    chosen = recipe(spec.preset, spec.init_from.type, boxes=boxes)
    defaults = Hyperparameters(
        frozen_blocks=chosen.frozen_blocks,
        backbone_factor=chosen.backbone_factor,
        small_share=chosen.small_share,
        repeat_threshold=chosen.repeat_threshold,
    )
    parameters = parse_hyperparameters(spec.hyperparameters, defaults)
    fingerprint = hashlib.sha256(to_json(spec) + dataset_digest.encode()).hexdigest()
    if spec.max_steps is not None:
        steps = sufficient_steps(images, spec.init_from.type, batch_size=spec.batch_size, max_steps=spec.max_steps)
        spec = replace(spec, steps=steps)
    fixed_size = spec.architecture is Architecture.SSD_300
    eval_every = evaluation_interval(spec.steps, spec.eval_every_steps)
    return TrainConfig(
        trainer=TrainerSettings(
            architecture=spec.architecture,
            width=spec.width,
            classes=classes,
            seed=spec.seed,
            weight_decay=parameters.weight_decay,
            backbone_factor=parameters.backbone_factor,
            frozen_blocks=parameters.frozen_blocks,
            ema_decay=parameters.ema_decay,
            xla=parameters.xla,
            resize=spec.resize,
            augmentation=Augmentation(
                zoom=(parameters.min_zoom, parameters.max_zoom),
                horizontal_flip=parameters.horizontal_flip,
                vertical_flip=parameters.vertical_flip,
            ),
        ),
        learning_rate=LearningRateSchedule(_peak_learning_rate(spec), spec.steps),
        image_size=ImageSizeSchedule(
            spec.architecture.side,
            spec.steps,
            small=1.0 if fixed_size else parameters.small_side,
            small_share=parameters.small_share,
        ),
        steps=spec.steps,
        batch_size=spec.batch_size,
        eval_every=eval_every,
        checkpoint_every=spec.checkpoint_every_steps or eval_every,
        early_stopping_patience=spec.early_stopping_patience,
        fingerprint=fingerprint,
        mixed_precision=parameters.mixed_precision,
        cache_bytes=parameters.cache_mebibytes << 20,
        repeat_threshold=parameters.repeat_threshold,
    )


def _peak_learning_rate(spec: TrainSpec) -> float:
    """Returns the run's learning rate, or the default for its initial weights and batch size."""
    if spec.learning_rate is not None:
        return spec.learning_rate
    base = RANDOM_LEARNING_RATE if spec.init_from.type is InitFrom.RANDOM else PRETRAINED_LEARNING_RATE
    return base * math.sqrt(spec.batch_size / BASE_BATCH_SIZE)


def describe_config(config: TrainConfig) -> dict[str, str]:
    """Returns every number of the configuration under one flat name each, for the report."""
    trainer, augmentation = config.trainer, config.trainer.augmentation
    early_stopping_patience = config.early_stopping_patience
    values = {
        "architecture": str(trainer.architecture),
        "width": trainer.width,
        "resize": trainer.resize,
        "steps": config.steps,
        "batch size": config.batch_size,
        "peak learning rate": config.learning_rate.peak,
        "warm-up steps": config.learning_rate.warmup_steps,
        "weight decay": trainer.weight_decay,
        "EMA decay": trainer.ema_decay,
        "backbone learning rate factor": trainer.backbone_factor,
        "frozen blocks": trainer.frozen_blocks,
        "first picture side": config.image_size.first,
        "share of steps at the first side": config.image_size.small_share,
        "repeat threshold of rare classes": config.repeat_threshold,
        "zoom": f"{augmentation.zoom[0]} to {augmentation.zoom[1]}",
        "horizontal flip": augmentation.horizontal_flip,
        "vertical flip": augmentation.vertical_flip,
        "brightness": augmentation.brightness,
        "contrast": f"{augmentation.contrast[0]} to {augmentation.contrast[1]}",
        "saturation": f"{augmentation.saturation[0]} to {augmentation.saturation[1]}",
        "hue": augmentation.hue,
        "cut-out": augmentation.cutout,
        "XLA": trainer.xla,
        "seed": trainer.seed,
        "evaluate every": config.eval_every,
        "checkpoint every": config.checkpoint_every,
        "early stopping patience": "none" if early_stopping_patience is None else early_stopping_patience,
    }
    return {name: str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Hyperparameters:
    """Settings without a typed field. The defaults suit a few hundred to some thousand images.

    In the first `small_share` of the steps images have `small_side` × the input side. `frozen_blocks` counts blocks of
    the backbone that keep their initial weights. Pictures come more often where they have a class that is in less than
    `repeat_threshold` of all. Pictures are decoded once where `cache_mebibytes` hold them all.
    """

    weight_decay: float = 5e-4
    ema_decay: float = 0.998
    backbone_factor: float = 1.0
    frozen_blocks: int = 0
    small_side: float = 0.7
    small_share: float = SMALL_SHARE
    horizontal_flip: bool = True
    vertical_flip: bool = False
    min_zoom: float = 0.7
    max_zoom: float = 1.2
    repeat_threshold: float = 0.0
    mixed_precision: bool | None = None
    xla: bool = False
    cache_mebibytes: int = CACHE_BYTES >> 20


def parse_hyperparameters(values: Mapping[str, str], defaults: Hyperparameters | None = None) -> Hyperparameters:
    """Parses the settings without a typed field; those that are not given are as in `defaults`.

    Raises:
        SpecError: a name is unknown, or a value is out of its range.
    """
    changed: dict[str, float | bool] = {}
    for name, text in values.items():
        if name in _NUMBERS:
            field, low, high = _NUMBERS[name]
            number = _number(name, text, low, high)
            changed[field] = int(number) if name in _WHOLE_NUMBERS else number
        elif name in _SWITCHES:
            changed[_SWITCHES[name]] = _switch(name, text)
        elif name in ELSEWHERE:
            logger.warning("hyperparameter %s is not used in training: see %s", name, ELSEWHERE[name])
        elif name not in known_names():
            raise SpecError(f'hyperparameters["{name}"] is unknown; known are {", ".join(known_names())}')
    return replace(defaults or Hyperparameters(), **changed)  # type: ignore[arg-type]  # names and types come from the tables above


def known_names() -> list[str]:
    """Returns every name that is understood, sorted."""
    seed_names = (name for names, _ in SEED_NAMES.values() for name in names)
    return sorted({*seed_names, *ELSEWHERE, *_NUMBERS, *_SWITCHES})


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise SpecError(f'hyperparameters["{name}"] is {text[:40]!r}; it must be a number from {low} to {high}')
    return value


def _switch(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise SpecError(f'hyperparameters["{name}"] is {text[:40]!r}; it must be "true" or "false"')
    return text.lower() == "true"
