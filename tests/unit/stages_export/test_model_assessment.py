"""The assessment of a model: one sentence that says what it finds, and whether it may be used."""

import numpy as np
import pytest

from atoll_stages.export.evaluation import Curve, Gate, Measurement
from atoll_stages.export.model_assessment import Level, assess_model, overall_figures, share
from atoll_stages.train.evaluate import Metrics


def curve(name: str, objects: int, recall: float, precision: float) -> Curve:
    right = round(objects * recall)
    return Curve(name, objects, (recall,), (precision,), round(right / precision) if precision else 0, right)


def measured(*curves: Curve, ap50: float, per_class: dict[str, float] | None = None) -> Measurement:
    figures = Metrics(ap50, ap50 / 2, None, per_class or {item.name: ap50 for item in curves})
    names = tuple(item.name for item in curves)
    return Measurement("validation", names, figures, figures, curves, np.zeros((1, 1), int), ())


GOOD = measured(curve("ring", 100, 0.92, 0.9), curve("ball", 100, 0.88, 0.92), ap50=0.9)


def test_a_good_model_may_be_used() -> None:
    assessment = assess_model(GOOD)
    assert assessment.level is Level.USABLE
    assert assessment.sentence == "finds 9 of 10 objects, 9 of 10 detections are right: may be used"


def test_a_model_that_finds_half_needs_more_pictures() -> None:
    assessment = assess_model(measured(curve("ring", 100, 0.5, 0.8), ap50=0.45))
    assert assessment.level is Level.WEAK
    assert assessment.sentence == (
        "finds 5 of 10 objects, 8 of 10 detections are right: label more pictures or train longer"
    )


@pytest.mark.parametrize("ap50", [0.0, 0.028, 0.0999])
def test_below_a_tenth_of_ap50_it_finds_almost_nothing(ap50: float) -> None:
    assessment = assess_model(measured(curve("ring", 100, 0.9, 0.9), ap50=ap50))
    assert assessment.level is Level.USELESS
    assert assessment.sentence == f"finds almost nothing (AP50 {ap50:.2f}): do not use it"


def test_from_a_tenth_of_ap50_on_it_finds_something() -> None:
    assert assess_model(measured(curve("ring", 100, 0.3, 0.4), ap50=0.1)).level is Level.WEAK


def test_a_model_whose_detections_are_mostly_wrong_is_not_called_usable() -> None:
    assessment = assess_model(measured(curve("ring", 100, 0.9, 0.4), ap50=0.7))
    assert assessment.level is Level.WEAK
    assert "4 of 10 detections are right: label every object" in assessment.sentence


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    both = (curve("ring", 900, 0.95, 0.9), curve("ball", 100, 0.0, 0.0))
    assessment = assess_model(measured(*both, ap50=0.46, per_class={"ring": 0.92, "ball": 0.0}))
    assert assessment.level is Level.WEAK
    assert assessment.sentence.endswith(', but almost none of "ball": label more of that')


def test_a_class_without_objects_in_the_part_is_no_fault_of_the_model() -> None:
    unused = measured(*GOOD.curves, curve("pipe", 0, 0.0, 0.0), ap50=0.9, per_class={"ring": 0.9, "ball": 0.9})
    assert assess_model(unused).level is Level.USABLE


def test_a_failed_gate_forbids_the_word_usable() -> None:
    assessment = assess_model(GOOD, [Gate("maxAP50Drop", 0.01, 0.05, passed=False)])
    assert assessment.level is Level.WEAK
    assert assessment.sentence.endswith("fails a quality gate of its run")


def test_figures_of_few_objects_say_so() -> None:
    assessment = assess_model(measured(curve("ring", 12, 1.0, 1.0), ap50=1.0))
    assert ", measured on 12 objects only: may be used" in assessment.sentence


def test_no_object_at_all_is_no_assessment_on_the_model() -> None:
    assessment = assess_model(measured(curve("ring", 0, 0.0, 0.0), ap50=0.0))
    assert assessment.level is Level.WEAK
    assert assessment.sentence.startswith("cannot be assessed: the validation part has no labelled object")


def test_the_sentence_is_bounded_whatever_the_classes_are_called() -> None:
    names = [f"{i}" + "x" * 300 for i in range(40)]
    curves = [curve(name, 10, 0.0, 0.0) for name in names] + [curve("ring", 1000, 0.9, 0.9)]
    assessment = assess_model(measured(*curves, ap50=0.2, per_class=dict.fromkeys(names, 0.0) | {"ring": 0.9}))
    assert "and 38 more classes" in assessment.sentence
    assert len(assessment.sentence) < 300


def test_all_classes_together_count_by_their_objects() -> None:
    recall, precision = overall_figures([curve("a", 90, 1.0, 1.0), curve("b", 10, 0.5, 0.25)])
    assert recall == pytest.approx(0.95)
    assert precision == pytest.approx(95 / 110)
    assert overall_figures([curve("a", 3, 0.0, 0.0)]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "all"),
        (0.999, "19 of 20"),
        (0.949, "9 of 10"),
        (0.5, "5 of 10"),
        (0.05, "1 of 10"),
        (0.04, "1 of 20 or fewer"),
        (0.0, "1 of 20 or fewer"),
    ],
)
def test_a_share_is_said_as_people_say_it(value: float, text: str) -> None:
    assert share(value) == text
