"""Schedules, hyperparameters and the plan made of them."""

import itertools

import pytest

from atoll_contract.errors import SpecError
from atoll_contract.stage import Architecture, InitFrom, StartWeights, TrainSpec
from atoll_stages.train.config import Tuning, known_names, make_plan, read_tuning
from atoll_stages.train.optimizer import Schedule, Sizes


def test_the_rate_rises_to_its_peak_and_falls_to_the_last_step() -> None:
    schedule = Schedule(peak=0.1, steps=100)
    rates = [schedule.rate(step) for step in range(100)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(0.1)
    assert top in (schedule.warmup - 1, schedule.warmup)
    assert all(a < b for a, b in itertools.pairwise(rates[: schedule.warmup]))
    assert all(a > b for a, b in itertools.pairwise(rates[schedule.warmup :]))
    assert 0.0 < rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 7, 200, 100_000])
def test_the_rate_never_reaches_zero_within_the_steps_asked_for(steps: int) -> None:
    assert Schedule(1.0, steps).rate(steps - 1) > 0.0


def test_pictures_grow_once_and_small_inputs_do_not_shrink() -> None:
    sizes = Sizes(320, 100, small=0.7, share=0.5)
    assert [sizes.at(step) for step in (0, 49, 50, 99)] == [224, 224, 320, 320]
    assert Sizes(192, 100, small=0.7, share=0.5).at(0) == 192


def test_the_seeds_names_whose_work_another_part_does_are_accepted() -> None:
    file = {"name": "x", "percent-eval": "30", "dataset-path": "/wpi-data/x.tar", "checkpoint": "default"}
    assert read_tuning(file) == Tuning()


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(SpecError, match=r"lerning-rate.*weight-decay"):
        read_tuning({"lerning-rate": "1"})
    assert "augment-vertical-flip" in known_names()


@pytest.mark.parametrize(
    ("name", "value"), [("weight-decay", "9"), ("augment-vertical-flip", "perhaps"), ("ema-decay", "nan")]
)
def test_values_out_of_range_are_refused(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=name):
        read_tuning({name: value})


def test_random_weights_train_faster_and_nothing_is_frozen() -> None:
    pretrained = make_plan(TrainSpec(), classes=2, dataset_digest="d")
    random = make_plan(TrainSpec(init_from=StartWeights(InitFrom.RANDOM)), classes=2, dataset_digest="d")
    assert random.schedule.peak > pretrained.schedule.peak
    assert {pretrained.trainer.frozen_blocks, random.trainer.frozen_blocks} == {0}


def test_ssd_keeps_its_one_picture_size() -> None:
    plan = make_plan(TrainSpec(architecture=Architecture.SSD_300), classes=1, dataset_digest="d")
    assert {plan.sizes.at(step) for step in range(plan.steps)} == {300}


def test_other_settings_or_data_have_another_fingerprint() -> None:
    plans = [
        make_plan(TrainSpec(), classes=1, dataset_digest="d"),
        make_plan(TrainSpec(seed=1), classes=1, dataset_digest="d"),
        make_plan(TrainSpec(), classes=1, dataset_digest="e"),
    ]
    assert len({plan.fingerprint for plan in plans}) == 3
