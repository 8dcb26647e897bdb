"""Schedules, hyperparameters and the configuration made of them."""

import itertools

import pytest

from atoll_contract.errors import SpecError
from atoll_contract.stage import Architecture, InitFrom, StartWeights, TrainSpec
from atoll_stages.train.config import Hyperparameters, known_names, make_config, parse_hyperparameters
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
    ("name", "value"), [("weight-decay", "9"), ("augment-vertical-flip", "perhaps"), ("ema-decay", "nan")]
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
