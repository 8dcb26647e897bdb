"""Which frames count as uncertain, and which of many are taken."""

from dataclasses import replace

import pytest

from atoll_contract.harvest import Cause
from atoll_contract.release import Detection
from atoll_edge.harvest.harvester import REMEMBERED, Candidate, Selection
from atoll_edge.harvest.uncertainty import HARVEST_BAND, Uncertainty, UncertaintyEstimator, cells_of, score_uncertainty
from support.harvested_frames import THRESHOLDS, answer, detection, scene

AT, NEAR, SURE, NEVER = 0.5, 0.5 + HARVEST_BAND / 2, 0.5 + HARVEST_BAND, 0.5 - HARVEST_BAND


def test_a_score_at_its_threshold_counts_one_box_and_a_sure_one_none() -> None:
    assert score_uncertainty([detection(AT)], THRESHOLDS) == 1.0
    assert score_uncertainty([detection(NEAR)], THRESHOLDS) == pytest.approx(0.5)
    assert score_uncertainty([detection(SURE), detection(0.99), detection(NEVER)], THRESHOLDS) == pytest.approx(0)


def test_each_class_has_its_own_threshold_and_the_boxes_add_up() -> None:
    assert score_uncertainty([detection(0.4, class_id=1), detection(AT)], THRESHOLDS) == 2.0
    assert score_uncertainty([detection(AT, class_id=2), detection(AT, class_id=-1)], THRESHOLDS) == 0.0


def test_a_threshold_of_the_settings_replaces_the_models() -> None:
    assert UncertaintyEstimator(0.3).thresholds(THRESHOLDS) == (0.3, 0.3)
    assert UncertaintyEstimator().thresholds(THRESHOLDS) == THRESHOLDS


def read(estimator: UncertaintyEstimator, seed: int, *detections: Detection, digest: str = "d") -> Uncertainty:
    return estimator.estimate(digest, cells_of(scene(seed)), detections, THRESHOLDS)


def test_an_object_that_comes_and_goes_in_a_still_scene_is_uncertain() -> None:
    estimator = UncertaintyEstimator()
    assert read(estimator, 0, detection(0.9)).boxes == 0.0
    assert read(estimator, 0) == Uncertainty(1.0, Cause.FLICKER)
    assert read(estimator, 0, detection(0.9)) == Uncertainty(1.0, Cause.FLICKER)
    assert read(estimator, 0, detection(0.9)).boxes == 0.0
    # The other class in the same place is one object gone and another come.
    assert read(estimator, 0, detection(0.9, class_id=1)).boxes == 2.0


def test_another_scene_another_model_and_the_border_are_no_flicker() -> None:
    estimator = UncertaintyEstimator()
    read(estimator, 0, detection(0.9))
    assert read(estimator, 1).boxes == 0.0
    read(estimator, 1, detection(0.9))
    assert read(estimator, 1, digest="another").boxes == 0.0
    leaving = detection(0.9, box=(0.4, 0.9, 0.6, 1.0))
    read(estimator, 1, leaving)
    assert read(estimator, 1).boxes == 0.0


def candidate(seed: int, uncertainty: float) -> Candidate:
    frame = scene(seed)
    return Candidate("front", frame, answer(), THRESHOLDS, Uncertainty(uncertainty, Cause.SCORE), cells_of(frame), 0.0)


@pytest.fixture
def selection() -> Selection:
    return Selection(min_uncertainty=0.5, every_seconds=10.0, now=0.0)


def test_only_the_most_uncertain_frame_of_an_interval_is_taken(selection: Selection) -> None:
    for seed, uncertainty in enumerate((0.6, 2.0, 1.0)):
        selection.offer(candidate(seed, uncertainty))
    assert selection.take(9.9) is None
    taken = selection.take(10.0)
    assert taken is not None
    assert taken.uncertainty.boxes == 2.0
    assert selection.take(1000.0) is None


def test_frames_are_taken_no_faster_than_the_interval(selection: Selection) -> None:
    taken = 0
    for tick in range(1000):
        selection.offer(candidate(tick, 1.0))
        taken += selection.take(tick / 10) is not None
    assert taken == 9


def test_a_sure_frame_is_never_taken(selection: Selection) -> None:
    selection.offer(candidate(0, 0.49))
    assert selection.take(100.0) is None


def test_a_still_scene_is_taken_once(selection: Selection) -> None:
    for now in (10.0, 20.0, 30.0):
        selection.offer(candidate(0, 1.0))
        assert (selection.take(now) is not None) == (now == 10.0)
    selection.offer(candidate(1, 1.0))
    assert selection.take(40.0) is not None


def test_only_so_many_scenes_are_remembered(selection: Selection) -> None:
    now = 0.0
    for seed in range(REMEMBERED + 1):
        now += 10.0
        selection.offer(candidate(seed, 1.0))
        assert selection.take(now) is not None
    selection.offer(candidate(0, 1.0))
    assert selection.take(now + 10.0) is not None


def test_a_little_noise_does_not_make_a_scene_new(selection: Selection) -> None:
    first = candidate(0, 1.0)
    selection.offer(first)
    assert selection.take(10.0) is not None
    selection.offer(replace(first, cells=first.cells + 3))
    assert selection.take(20.0) is None
