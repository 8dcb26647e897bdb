"""Metrics, matching, curves, thresholds, gates, golden images and the images of the report, on made-up detections."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoll_contract.stage import QualityGates
from atoll_stages.export.edgetpu_mapping import MappingReport
from atoll_stages.export.evaluation import (
    DEFAULT_THRESHOLD,
    UNMATCHED,
    Gate,
    check_gates,
    confusion_matrix,
    match_labels,
    precision_recall,
)
from atoll_stages.export.sample_images import expected_detections, select_golden, select_images, write_golden_images
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections, iou_matrix
from atoll_stages.train.evaluate import Metrics, evaluate
from support.detection_data import CLASSES, labelled_images

EXAMPLES = labelled_images(4)


def found(*rows: tuple[int, float, np.ndarray | list[float]]) -> Detections:
    """Detections from (class, score, box)."""
    return Detections(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in rows], np.int32),
        np.array([score for _, score, _ in rows], np.float32),
    )


def perfect(example: Example, *, score: float = 0.9) -> Detections:
    return found(*((int(label), score, box) for label, box in zip(example.labels, example.boxes, strict=True)))


ELSEWHERE = [0.0, 0.0, 0.01, 0.01]


def test_perfect_detections_have_ap_one() -> None:
    metrics = evaluate(examples=EXAMPLES, detections=[perfect(e) for e in EXAMPLES], classes=CLASSES, side=320)
    assert metrics.ap50 == pytest.approx(1.0)
    assert metrics.ap == pytest.approx(1.0)
    assert metrics.per_class == {name: pytest.approx(1.0) for name in CLASSES}


def test_no_detections_have_ap_zero_in_every_class_that_occurs() -> None:
    metrics = evaluate(examples=EXAMPLES, detections=[found()] * 4, classes=(*CLASSES, "unused"), side=320)
    assert metrics.ap50 == 0.0
    assert metrics.per_class == dict.fromkeys(CLASSES, 0.0)


def test_half_of_the_objects_found_is_half_the_ap() -> None:
    detections = [perfect(e) if i < 2 else found() for i, e in enumerate(EXAMPLES)]
    metrics = evaluate(examples=EXAMPLES, detections=detections, classes=CLASSES, side=320)
    assert metrics.ap50 == pytest.approx(0.5, abs=0.02)


def test_a_label_is_matched_once_by_the_detection_of_the_higher_score() -> None:
    example = EXAMPLES[0]
    twice = found((0, 0.4, example.boxes[0]), (0, 0.8, example.boxes[0]))
    matches = match_labels(twice, example, same_class=True)
    assert matches.label_index.tolist() == [UNMATCHED, 0]
    assert matches.missed.tolist() == [1]


def test_iou_without_boxes() -> None:
    assert iou_matrix(np.zeros((0, 4)), EXAMPLES[0].boxes).shape == (0, 2)


def test_recall_and_precision_are_those_of_the_detections_from_the_threshold_on() -> None:
    detections = [perfect(e, score=0.8) for e in EXAMPLES]
    detections[0] = found(*((0, 0.8, EXAMPLES[0].boxes[0]), (1, 0.8, EXAMPLES[0].boxes[1]), (0, 0.3, ELSEWHERE)))
    square, disc = precision_recall(EXAMPLES, detections, CLASSES)
    assert (square.threshold_precision, square.threshold_recall) == (1.0, 1.0)
    assert square.precision[-1] == pytest.approx(4 / 5)
    assert disc.objects == 4


def test_what_lies_below_the_threshold_is_not_found() -> None:
    detections = [perfect(e, score=DEFAULT_THRESHOLD if i < 1 else 0.49) for i, e in enumerate(EXAMPLES)]
    square, disc = precision_recall(EXAMPLES, detections, CLASSES)
    assert (square.threshold_precision, square.threshold_recall) == (1.0, 0.25)
    assert (disc.found, disc.right, disc.objects) == (1, 1, 4)


def test_wrong_detections_count_also_where_none_is_right() -> None:
    curves = precision_recall(EXAMPLES, [found((0, 0.9, ELSEWHERE))] * 4, CLASSES)
    assert [(curve.found, curve.right, curve.threshold_precision) for curve in curves] == [(4, 0, 0.0), (0, 0, 0.0)]


def test_confusion_counts_every_object_and_every_detection() -> None:
    swapped = found((1, 0.9, EXAMPLES[0].boxes[0]), (0, 0.9, ELSEWHERE))
    detections = [swapped, *(perfect(e) for e in EXAMPLES[1:])]
    table = confusion_matrix(EXAMPLES, detections, thresholds=[0.5, 0.5])
    assert table.tolist() == [[3, 1, 0], [0, 3, 1], [1, 0, 0]]


MAPPING = MappingReport(True, 97, 100, 97.0, (), True, ())


@pytest.mark.parametrize(
    ("gates", "passed"),
    [
        (QualityGates(), []),
        (QualityGates(min_ap50=0.8), [True]),
        (QualityGates(min_ap50=0.81), [False]),
        (QualityGates(max_ap50_drop=0.02), [True]),
        (QualityGates(max_ap50_drop=0.019), [False]),
        (QualityGates(min_mapped_percent=97.0), [True]),
        (QualityGates(min_ap50=0.5, max_ap50_drop=0.5, min_mapped_percent=98.0), [True, True, False]),
    ],
)
def test_gates(gates: QualityGates, passed: list[bool]) -> None:
    float_metrics, int8_metrics = Metrics(0.82, 0.5, None), Metrics(0.80, 0.49, None)
    assert [
        g.passed for g in check_gates(gates, float_metrics=float_metrics, int8_metrics=int8_metrics, mapping=MAPPING)
    ] == passed


def test_a_failed_gate_says_limit_and_measurement() -> None:
    metrics = Metrics(0.412, 0.2, None)
    (gate,) = check_gates(QualityGates(min_ap50=0.5), float_metrics=metrics, int8_metrics=metrics, mapping=MAPPING)
    assert gate.describe() == "minAP50: measured 0.412, must be at least 0.5"


@pytest.mark.parametrize(("measured", "text"), [(1.13e-05, "0"), (0.19996, "0.2"), (0.1999, "0.1999"), (97.6, "97.6")])
def test_a_measured_value_is_no_power_of_ten(measured: float, text: str) -> None:
    assert Gate("minAP50", 0.2, measured, passed=False).measured_text == text


def test_golden_images_have_the_most_classes_and_only_high_scores_are_expected(tmp_path: Path) -> None:
    detections = [
        found((0, 0.6, ELSEWHERE)),
        perfect(EXAMPLES[1]),
        found(),
        found((1, 0.95, ELSEWHERE), (0, 0.1, ELSEWHERE)),
    ]
    assert select_golden(detections) == [1, 3, 0]
    assert [d.class_id for d in expected_detections(detections[3])] == [1]
    images = [np.asarray(Image.open(io.BytesIO(e.encoded))) for e in EXAMPLES]
    entries = write_golden_images(tmp_path, images, detections)
    assert [entry.name for entry in entries] == ["golden-0.png", "golden-1.png", "golden-2.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "golden-0.png")), images[1])


def test_mistakes_of_high_score_are_surprising_and_no_image_is_shown_twice() -> None:
    detections = [
        perfect(EXAMPLES[0]),
        found((0, 0.99, ELSEWHERE)),
        found(),
        perfect(replace(EXAMPLES[3], labels=EXAMPLES[3].labels[::-1]), score=0.7),
    ]
    selection = select_images(EXAMPLES, detections, thresholds=[0.5, 0.5], max_images=2)
    assert [s.index for s in selection.surprising] == [1, 3]
    assert [s.index for s in selection.worst] == [2]
    assert [s.index for s in selection.best] == [0]
    assert selection.worst[0].missed == (0, 1)
