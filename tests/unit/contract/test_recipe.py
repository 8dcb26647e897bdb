"""What a preset chooses."""

import pytest

from atoll_contract.recipe import (
    FULL_RATE_BOXES,
    MAX_STEPS,
    MIN_BACKBONE_FACTOR,
    Recipe,
    describe,
    recipe,
    sufficient_steps,
)
from atoll_contract.train_spec import InitFrom, Preset

PRETRAINED = [InitFrom.IMAGENET, InitFrom.RELEASE, InitFrom.CHECKPOINT]


@pytest.mark.parametrize("start", PRETRAINED)
def test_from_pretrained_weights_the_first_blocks_are_frozen(start: InitFrom) -> None:
    chosen = recipe(Preset.AUTO, start, boxes=100)
    assert chosen.frozen_blocks > 0
    assert 0.0 < chosen.small_share < Recipe().small_share
    assert chosen.repeat_threshold > Recipe().repeat_threshold == 0.0
    assert f"first {chosen.frozen_blocks} blocks keep their weights" in describe(Preset.AUTO, start)


@pytest.mark.parametrize("start", PRETRAINED)
def test_the_fewer_boxes_the_more_slowly_a_pretrained_backbone_learns(start: InitFrom) -> None:
    factors = [recipe(Preset.AUTO, start, boxes=boxes).backbone_factor for boxes in (0, 20, 150, 500, 1000, 2000, 9000)]
    assert factors == [MIN_BACKBONE_FACTOR, MIN_BACKBONE_FACTOR, MIN_BACKBONE_FACTOR, 0.5, 0.71, 1.0, 1.0]
    assert f"more slowly from fewer than {FULL_RATE_BOXES} boxes" in describe(Preset.AUTO, start)
    assert "learn at 0.5 of the rate, for 500 boxes" in describe(Preset.AUTO, start, boxes=500)
    assert "learn at" not in describe(Preset.AUTO, start, boxes=FULL_RATE_BOXES)


def test_random_weights_are_all_learned() -> None:
    assert recipe(Preset.AUTO, InitFrom.RANDOM, boxes=20) == Recipe(frozen_blocks=0, backbone_factor=1.0)
    assert "every layer learns" in describe(Preset.AUTO, InitFrom.RANDOM)


@pytest.mark.parametrize("preset", [None, Preset.PLAIN])
@pytest.mark.parametrize("start", InitFrom)
def test_without_the_preset_everything_is_as_it_was(preset: Preset | None, start: InitFrom) -> None:
    assert recipe(preset, start, boxes=20) == Recipe(frozen_blocks=0, backbone_factor=1.0)


@pytest.mark.parametrize("start", InitFrom)
def test_steps_grow_with_the_pictures_within_bounds(start: InitFrom) -> None:
    steps = [sufficient_steps(images, start, batch_size=8) for images in (0, 20, 500, 5_000, 1_000_000)]
    assert steps == sorted(steps)
    assert steps[0] == steps[1] >= 400
    assert steps[-1] == MAX_STEPS
    assert sufficient_steps(5_000, start, batch_size=8, max_steps=70) == 70
    assert sufficient_steps(5_000, start, batch_size=32) < sufficient_steps(5_000, start, batch_size=8)
