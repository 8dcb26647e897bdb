"""How sure the figures are: AP50's interval, the gap to the training part, recall by size."""

from dataclasses import replace

import numpy as np
import pytest

from atoll_contract.text import ap50_text
from atoll_stages.export.bootstrap import ap50_interval, interval, sample_ap50
from atoll_stages.export.evaluation import measure
from atoll_stages.export.reliability import Reliability, measure_reliability
from atoll_stages.export.size_recall import recall_by_size
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import evaluate
from support.detection_data import CLASSES, labelled_images

EXAMPLES = labelled_images(40)
ELSEWHERE = [[0.0, 0.0, 0.01, 0.01]]


def detections(examples: list[Example], *, found: float, seed: int = 0) -> list[Detections]:
    """This share of the objects, and in every image a wrong detection."""
    random = np.random.default_rng(seed)
    items = []
    for example in examples:
        kept = random.random(len(example.labels)) < found
        boxes = np.concatenate([example.boxes[kept], ELSEWHERE]).astype(np.float32)
        labels = np.concatenate([example.labels[kept], [0]]).astype(np.int32)
        items.append(Detections(boxes, labels, random.random(len(labels)).astype(np.float32)))
    return items


def usual_detections(examples: list[Example], *, seed: int) -> list[Detections]:
    """Three of four objects, mostly with higher scores than the wrong detections."""
    random = np.random.default_rng(seed)
    items = []
    for example in examples:
        kept, wrong = random.random(len(example.labels)) < 0.75, random.poisson(0.7)
        boxes = np.concatenate([example.boxes[kept], np.tile(ELSEWHERE, (wrong, 1))]).astype(np.float32)
        labels = np.concatenate([example.labels[kept], random.integers(0, 2, wrong)]).astype(np.int32)
        scores = np.concatenate([random.normal(0.65, 0.2, kept.sum()), random.normal(0.35, 0.2, wrong)])
        items.append(Detections(boxes, labels, np.clip(scores, 0.02, 0.99).astype(np.float32)))
    return items


def borders(examples: list[Example], items: list[Detections]) -> tuple[float, float]:
    ap50 = evaluate(examples=examples, detections=items, classes=CLASSES, side=320).ap50
    found = ap50_interval(sample_ap50(examples, items, CLASSES), ap50)
    assert found is not None
    return found


def test_the_interval_is_about_the_figure_itself() -> None:
    items = detections(EXAMPLES, found=0.7)
    metrics = evaluate(examples=EXAMPLES, detections=items, classes=CLASSES, side=320)
    low, high = borders(EXAMPLES, items)
    assert low < metrics.ap50 < high
    assert 0.05 < high - low < 0.4


def test_each_image_once_gives_the_ap_of_coco() -> None:
    """Twice each image gives the same AP, and half the width of an interval needs four times the images."""
    items = detections(EXAMPLES, found=0.7)
    few, many = borders(EXAMPLES, items), borders(EXAMPLES * 4, items * 4)
    assert many[1] - many[0] == pytest.approx((few[1] - few[0]) / 2, rel=0.25)
    samples = sample_ap50(EXAMPLES, items, CLASSES)
    assert samples is not None
    metrics = evaluate(examples=EXAMPLES, detections=items, classes=CLASSES, side=320)
    assert samples.mean() == pytest.approx(metrics.ap50, abs=0.03)


def test_the_same_pictures_have_the_same_interval() -> None:
    items = detections(EXAMPLES, found=0.7)
    assert borders(EXAMPLES, items) == borders(EXAMPLES, items)


def test_nineteen_of_twenty_intervals_hold_the_true_figure() -> None:
    """The true figure is that of very many images with the same detector."""
    pool = [EXAMPLES[number % 40] for number in range(4000)]
    items = usual_detections(pool, seed=1)
    truth = evaluate(examples=pool, detections=items, classes=CLASSES, side=320).ap50
    held = 0
    for start in range(0, 4000, 100):
        low, high = borders(pool[start : start + 100], items[start : start + 100])
        held += low <= truth <= high
    assert held >= 36


def test_a_perfect_detector_is_sure_and_one_image_says_nothing() -> None:
    perfect = [Detections(e.boxes, e.labels, np.full(len(e.labels), 0.9)) for e in EXAMPLES]
    assert borders(EXAMPLES, perfect) == (1.0, 1.0)
    assert sample_ap50(EXAMPLES[:1], perfect[:1], CLASSES) is None
    nothing = [replace(example, boxes=np.zeros((0, 4)), labels=np.zeros(0, int)) for example in EXAMPLES]
    assert sample_ap50(nothing, perfect, CLASSES) is None


def test_two_models_are_compared_on_the_same_samples() -> None:
    """A model that finds more in every image is surely better, although the intervals of both overlap."""
    weak = detections(EXAMPLES, found=0.6)
    strong = [
        Detections(
            np.concatenate([item.boxes, example.boxes[1:]]),
            np.concatenate([item.classes, example.labels[1:]]),
            np.concatenate([item.scores, [0.95]]),
        )
        for item, example in zip(weak, EXAMPLES, strict=True)
    ]
    one, other = (sample_ap50(EXAMPLES, items, CLASSES) for items in (weak, strong))
    assert one is not None
    assert other is not None
    difference = interval(other - one, center=float((other - one).mean()))
    assert difference is not None
    assert difference[0] > 0


@pytest.mark.parametrize(
    ("images", "found", "text"),
    [
        (32, (0.592, 0.921), "0.768 (32 pictures: .59–.92)"),
        (1200, (0.76, 1.0), "0.768 (1,200 pictures: .76–1.00)"),
        (1, None, "0.768 (1 picture)"),
        (0, None, "0.768"),
    ],
)
def test_the_figure_comes_with_its_pictures_and_its_interval(
    images: int, found: tuple[float, float] | None, text: str
) -> None:
    assert ap50_text(0.7677, images=images, interval=found) == text


def test_recall_is_counted_by_the_size_in_the_input() -> None:
    """Of an object 5 % of the picture wide, an input of 320 pixels has 16."""
    edges = [0.02, 0.05, 0.09, 0.15, 0.5]
    boxes = np.array([[0.1, 0.1, 0.1 + edge, 0.1 + edge] for edge in edges], np.float32)
    example = replace(EXAMPLES[0], boxes=boxes, labels=np.zeros(5, int))
    scores = np.array([0.9, 0.49, 0.9, 0.9, 0.5])
    rows = recall_by_size([example], [Detections(boxes, np.zeros(5, int), scores)], classes=2, side=320)
    assert [(row.label, row.objects, row.found) for row in rows] == [
        ("below 8", 1, 1),
        ("8 to 16", 0, 0),
        ("16 to 32", 2, 1),
        ("32 to 64", 1, 1),
        ("from 64", 1, 1),
    ]
    assert [row.recall for row in rows] == [1.0, 0.0, 0.5, 1.0, 1.0]


def reliability(*, on_training: float, split: str = "test") -> Reliability:
    items = detections(EXAMPLES, found=0.5)
    measurement = measure(
        split=split, classes=CLASSES, side=320, examples=EXAMPLES, float_detections=items, int8_detections=items
    )
    training = labelled_images(20, first=500)
    own = detections(training, found=on_training)
    return measure_reliability(measurement, EXAMPLES, training=training, training_detections=own, side=320)


def test_a_model_that_knows_its_own_pictures_only_has_learnt_them_by_heart() -> None:
    by_heart, fair = reliability(on_training=1.0), reliability(on_training=0.5)
    assert by_heart.is_overfitted
    assert not fair.is_overfitted
    document = by_heart.document()
    assert document["training"]["ap"] == pytest.approx(by_heart.training.ap, abs=1e-4)
    assert (document["pictures"], document["training"]["pictures"]) == (40, 20)


def test_the_part_that_chose_the_step_is_told() -> None:
    assert reliability(on_training=0.5, split="validation").chosen_on
    assert not reliability(on_training=0.5, split="test").chosen_on
