"""The settings of a training in words, for its report."""

from __future__ import annotations

from collections.abc import Mapping

from atoll_stages.train.plan import Plan


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
