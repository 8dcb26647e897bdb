"""Schedules, hyperparameters and the configuration made of them."""

import itertools

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import SpecError
from atoll_contract.recipe import Recipe, recipe, sufficient_steps
from atoll_contract.train_spec import Accelerator, Architecture, InitFrom, Preset, StartWeights, TrainSpec
from atoll_stages.train.config import Hyperparameters, known_names, make_config, parse_hyperparameters
from atoll_stages.train.dataset import CACHE_BYTES, canvas_side
from atoll_stages.train.devices import find_devices
from atoll_stages.train.optimizer import ImageSizeSchedule, LearningRateSchedule


def test_the_rate_rises_to_its_peak_and_falls_to_the_last_step() -> None:
    schedule = LearningRateSchedule(peak=0.1, steps=100)
    rates = [schedule.at(step) for step in range(100)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(0.1)
    assert top in (schedule.warmup_steps - 1, schedule.warmup_steps)
    assert all(a < b for a, b in itertools.pairwise(rates[: schedule.warmup_steps]))
    assert all(a > b for a, b in itertools.pairwise(rates[schedule.warmup_steps :]))
    assert 0.0 < rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 7, 200, 100_000])
def test_the_rate_never_reaches_zero_within_the_steps_asked_for(steps: int) -> None:
    assert LearningRateSchedule(1.0, steps).at(steps - 1) > 0.0


def test_the_image_size_grows_once_and_small_inputs_do_not_shrink() -> None:
    sizes = ImageSizeSchedule(320, 100, small=0.7, small_share=0.5)
    assert [sizes.at(step) for step in (0, 49, 50, 99)] == [224, 224, 320, 320]
    assert ImageSizeSchedule(192, 100, small=0.7, small_share=0.5).at(0) == 192


def test_names_of_the_seed_that_belong_elsewhere_are_accepted() -> None:
    file = {"name": "x", "percent-eval": "30", "dataset-path": "/wpi-data/x.tar", "checkpoint": "default"}
    assert parse_hyperparameters(file) == Hyperparameters()


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(SpecError, match=r"lerning-rate.*weight-decay"):
        parse_hyperparameters({"lerning-rate": "1"})
    assert "augment-vertical-flip" in known_names()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("xla", "1"),
        ("decoded-cache-mebibytes", "-1"),
        ("weight-decay", "9"),
        ("augment-vertical-flip", "perhaps"),
        ("ema-decay", "nan"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=name):
        parse_hyperparameters({name: value})


def test_random_weights_train_faster_and_nothing_is_frozen() -> None:
    pretrained = make_config(TrainSpec(), classes=2, dataset_digest="d")
    random = make_config(TrainSpec(init_from=StartWeights(InitFrom.RANDOM)), classes=2, dataset_digest="d")
    assert random.learning_rate.peak > pretrained.learning_rate.peak
    assert {pretrained.trainer.frozen_blocks, random.trainer.frozen_blocks} == {0}


def test_ssd_keeps_its_one_image_size() -> None:
    config = make_config(TrainSpec(architecture=Architecture.SSD_300), classes=1, dataset_digest="d")
    assert {config.image_size.at(step) for step in range(config.steps)} == {300}


def test_other_settings_or_data_have_another_fingerprint() -> None:
    configs = [
        make_config(TrainSpec(), classes=1, dataset_digest="d"),
        make_config(TrainSpec(seed=1), classes=1, dataset_digest="d"),
        make_config(TrainSpec(), classes=1, dataset_digest="e"),
    ]
    assert len({config.fingerprint for config in configs}) == 3


def test_auto_freezes_blocks_and_a_number_that_is_given_counts() -> None:
    auto = TrainSpec(preset=Preset.AUTO)
    chosen = recipe(Preset.AUTO, InitFrom.IMAGENET, boxes=700)
    config = make_config(auto, classes=2, dataset_digest="d", boxes=700)
    trainer = config.trainer
    assert (trainer.frozen_blocks, trainer.backbone_factor) == (chosen.frozen_blocks, chosen.backbone_factor)
    assert config.image_size.small_share == chosen.small_share
    assert config.sampling.repeat_threshold == chosen.repeat_threshold
    numbers = {"frozen-blocks": "0", "backbone-learning-rate-factor": "0.9", "small-share": "0.5"}
    numbers["repeat-threshold"] = "0.1"
    by_hand = make_config(replace(auto, hyperparameters=numbers), classes=2, dataset_digest="d")
    assert (by_hand.trainer.frozen_blocks, by_hand.trainer.backbone_factor) == (0, 0.9)
    assert by_hand.image_size.small_share == 0.5
    assert by_hand.sampling.repeat_threshold == 0.1
    plain = make_config(TrainSpec(), classes=2, dataset_digest="d")
    assert plain.image_size.small_share == Recipe().small_share
    random = replace(auto, init_from=StartWeights(InitFrom.RANDOM))
    assert make_config(random, classes=2, dataset_digest="d").trainer.frozen_blocks == 0


def test_the_number_of_pictures_gives_the_steps_where_they_are_left_open() -> None:
    left_open = TrainSpec(preset=Preset.AUTO, max_steps=5000, batch_size=8)
    few, many = (make_config(left_open, classes=1, dataset_digest="d", images=count) for count in (40, 1000))
    assert few.steps == sufficient_steps(40, InitFrom.IMAGENET, batch_size=8)
    assert many.steps == many.learning_rate.steps == many.image_size.steps == 3250
    bounded = make_config(replace(left_open, max_steps=70), classes=1, dataset_digest="d", images=1000)
    assert bounded.steps == 70
    given = make_config(TrainSpec(preset=Preset.AUTO, steps=12), classes=1, dataset_digest="d", images=1000)
    assert given.steps == 12


def test_a_training_without_a_preset_is_the_one_that_it_was() -> None:
    """Its checkpoints are gone on from: what identifies them is as the version before presets wrote it."""
    config = make_config(TrainSpec(), classes=2, dataset_digest="d", images=50)
    assert config.fingerprint == "d6a0d6272581cad6a33c451e51ca4d853a29b3d2ab502b7947f59e1cbfcbaa50"
    spec = TrainSpec(init_from=StartWeights(InitFrom.RANDOM), steps=7, hyperparameters={"frozen-blocks": "2"})
    random = make_config(spec, classes=2, dataset_digest="d", images=50)
    assert random.fingerprint == "4bc8581fc1d4c987e00d589245f90ba97b6b9c0e16da41413be5071c908ec030"
    assert (config.steps, random.steps, random.trainer.frozen_blocks) == (1000, 7, 2)


def test_what_speeds_up_a_gpu_can_be_set_and_is_off_or_the_devices_own_choice() -> None:
    plain = make_config(TrainSpec(steps=7), classes=1, dataset_digest="")
    assert (plain.mixed_precision, plain.trainer.xla, plain.cache_bytes) == (None, False, CACHE_BYTES)
    given = {"mixed-precision": "false", "xla": "true", "decoded-cache-mebibytes": "8192"}
    config = make_config(TrainSpec(steps=7, hyperparameters=given), classes=1, dataset_digest="")
    assert (config.mixed_precision, config.trainer.xla, config.cache_bytes) == (False, True, 8 << 30)
    assert canvas_side(320, count=2_000) == 320
    assert canvas_side(320, count=2_000, cache_bytes=config.cache_bytes) == 480
    devices = find_devices(Accelerator.CPU)
    assert not devices.with_precision(None).mixed_precision
    assert devices.with_precision(mixed=True).mixed_precision
