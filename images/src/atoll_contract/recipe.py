"""What a training does where its settings are left open (`training.preset`). docs/accuracy.md has the trials behind it.

Pure, and without TensorFlow, so that a draft and the train stage choose the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from atoll_contract.train_spec import InitFrom, Preset

# How often each picture is seen, and how many steps were measured to be enough (BCCD: 670 of batch 8 from ImageNet
# weights, 1200 of batch 8 from random ones). A release has done most of its training already.
PASSES: Mapping[InitFrom, int] = MappingProxyType(
    {InitFrom.RANDOM: 45, InitFrom.IMAGENET: 26, InitFrom.RELEASE: 15, InitFrom.CHECKPOINT: 15}
)
SUFFICIENT_STEPS: Mapping[InitFrom, int] = MappingProxyType(
    {InitFrom.RANDOM: 1200, InitFrom.IMAGENET: 670, InitFrom.RELEASE: 400, InitFrom.CHECKPOINT: 400}
)
# More passes over the same pictures improve little.
MAX_STEPS = 20_000
STEPS_MULTIPLE = 10

# Edges and colours are the same in all photographs: without gradients through them a step takes a third less.
FROZEN_BLOCKS = 3

# From so many boxes on a pretrained backbone learns at the full rate. With fewer it would learn them by heart, so its
# rate falls with the root of their number, down to this share.
FULL_RATE_BOXES = 2000
MIN_BACKBONE_FACTOR = 0.3

# The share of the steps, from the first on, whose pictures are smaller than the input. Boxes come to fit at full size,
# and pretrained weights need fewer small steps to get there.
SMALL_SHARE, PRETRAINED_SMALL_SHARE = 0.6, 0.3

# A picture with a class that is in less than this share of the pictures comes more often.
REPEAT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Recipe:
    """Settings that a preset stands for. `frozen_blocks`: the stem and so many blocks of the backbone keep their
    weights (0: none). `backbone_factor` scales the backbone's learning rate. In the first `small_share` of the steps
    pictures are small. Pictures with a class that is in less than `repeat_threshold` of all come more often; 0: none.
    """

    frozen_blocks: int = 0
    backbone_factor: float = 1.0
    small_share: float = SMALL_SHARE
    repeat_threshold: float = 0.0


def recipe(preset: Preset | None, start: InitFrom, *, boxes: int) -> Recipe:
    """Returns what the preset chooses for a training from these weights on so many boxes. Random weights are all
    learned."""
    if preset is not Preset.AUTO or start is InitFrom.RANDOM:
        return Recipe()
    factor = min(1.0, max(MIN_BACKBONE_FACTOR, math.sqrt(boxes / FULL_RATE_BOXES)))
    return Recipe(FROZEN_BLOCKS, round(factor, 2), PRETRAINED_SMALL_SHARE, REPEAT_THRESHOLD)


def sufficient_steps(images: int, start: InitFrom, *, batch_size: int, max_steps: int = MAX_STEPS) -> int:
    """Returns how many steps a training on `images` pictures needs, `max_steps` at most."""
    wanted = max(SUFFICIENT_STEPS[start], math.ceil(PASSES[start] * images / batch_size))
    return min(MAX_STEPS, max_steps, math.ceil(wanted / STEPS_MULTIPLE) * STEPS_MULTIPLE)


def describe(preset: Preset | None, start: InitFrom, *, boxes: int | None = None) -> str:
    """Returns what the preset chooses, in words, for comments and messages; `boxes` None: nobody has counted them."""
    chosen = recipe(preset, start, boxes=boxes or 0)
    if chosen.frozen_blocks:
        text = f"the backbone's stem and first {chosen.frozen_blocks} blocks keep their weights"
        if boxes is None:
            return f"{text}, the others learn more slowly from fewer than {FULL_RATE_BOXES} boxes"
        if chosen.backbone_factor == 1.0:
            return text
        return f"{text}, the others learn at {chosen.backbone_factor} of the rate, for {boxes} boxes"
    return "from random weights every layer learns" if start is InitFrom.RANDOM else "every layer learns"
