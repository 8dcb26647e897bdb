"""The shift of the scores: .5 becomes the right threshold of every class, and nothing else changes."""

import json

import numpy as np
import pytest

from atoll_contract.errors import AtollError
from atoll_contract.train_spec import Architecture
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD, precision_recall
from atoll_stages.export.score_calibration import TOLERANCE, ScoreCalibration, calibrate_file, calibrate_scores
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.detector import build_detector, shift_class_logits
from atoll_stages.train.evaluate import evaluate
from support.detection_data import CLASSES, labelled_images

EXAMPLES = labelled_images(60)
ELSEWHERE = [0.0, 0.0, 0.01, 0.01]


def detections(seed: int, *, right: tuple[float, float], wrong: tuple[float, float]) -> list[Detections]:
    """Every object with a score about `right`, and an object that is not there about `wrong`, by class."""
    random = np.random.default_rng(seed)

    def scores(centers: tuple[float, float], labels: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.clip(np.array(centers)[labels] + random.normal(0, 0.08, len(labels)), 0.01, 0.99)
        return found

    found = []
    for example in EXAMPLES:
        labels = np.concatenate([example.labels, [0, 1]])
        values = np.concatenate([scores(right, example.labels), scores(wrong, np.array([0, 1]))])
        found.append(Detections(np.concatenate([example.boxes, [ELSEWHERE] * 2]), labels, values))
    return found


def shifted(found: list[Detections], calibration: ScoreCalibration) -> list[Detections]:
    """The detections of the shifted model, by the definition of a logit."""
    before = np.array(calibration.scores)

    def shift(item: Detections) -> Detections:
        logits = np.log(item.scores / (1 - item.scores)) - np.log(before / (1 - before))[item.classes]
        return Detections(item.boxes, item.classes, 1 / (1 + np.exp(-logits)))

    return [shift(item) for item in found]


def f1_at(threshold: float, found: list[Detections], label: int) -> float:
    curve = precision_recall(EXAMPLES, found, CLASSES)[label]
    kept = int(np.sum(np.array(curve.scores) >= threshold))
    if not kept:
        return 0.0
    recall, precision = curve.recall[kept - 1], curve.precision[kept - 1]
    return 2 * recall * precision / (recall + precision)


@pytest.mark.parametrize(("right", "wrong"), [((0.35, 0.7), (0.15, 0.45)), ((0.8, 0.25), (0.6, 0.08))])
def test_half_is_the_best_threshold_of_every_class(right: tuple[float, float], wrong: tuple[float, float]) -> None:
    found = detections(1, right=right, wrong=wrong)
    after = shifted(found, calibrate_scores("validation", EXAMPLES, found, CLASSES))
    for label in range(len(CLASSES)):
        best = max(f1_at(threshold, after, label) for threshold in np.linspace(0.01, 0.99, 197))
        assert f1_at(DEFAULT_THRESHOLD, after, label) >= 0.99 * best
        assert f1_at(DEFAULT_THRESHOLD, after, label) > f1_at(DEFAULT_THRESHOLD, found, label)


def test_other_pictures_keep_most_of_it() -> None:
    """What is chosen on one part holds on another with the same detector."""
    right, wrong = (0.35, 0.7), (0.15, 0.45)
    calibration = calibrate_scores("validation", EXAMPLES, detections(1, right=right, wrong=wrong), CLASSES)
    after = shifted(detections(2, right=right, wrong=wrong), calibration)
    for label in range(len(CLASSES)):
        best = max(f1_at(threshold, after, label) for threshold in np.linspace(0.01, 0.99, 197))
        assert f1_at(DEFAULT_THRESHOLD, after, label) >= 0.97 * best


def test_average_precision_stays() -> None:
    found = detections(1, right=(0.35, 0.7), wrong=(0.25, 0.6))
    after = shifted(found, calibrate_scores("validation", EXAMPLES, found, CLASSES))
    one, other = (evaluate(examples=EXAMPLES, detections=items, classes=CLASSES, side=320) for items in (found, after))
    assert one.ap50 < 1.0
    assert other == one


@pytest.mark.parametrize(
    ("scores", "wrong", "chosen"),
    [
        ([0.8] * 12, [0.3] * 4, 0.55),
        # A single one of two hundred does not move the threshold to its side of a gap.
        ([0.9] * 199 + [0.45], [0.4] * 20, (0.9 + 0.4) / 2),
        ([0.9] * 12, [], 0.45),
        ([0.06] * 12, [0.01], 0.05),
    ],
)
def test_the_middle_of_equally_good_thresholds_is_taken(scores: list[float], wrong: list[float], chosen: float) -> None:
    examples = [EXAMPLES[0]] * (len(scores) + len(wrong))
    found = [Detections(EXAMPLES[0].boxes[:1], np.array([0]), np.array([score])) for score in scores]
    found += [Detections(np.array([ELSEWHERE]), np.array([0]), np.array([score])) for score in wrong]
    calibration = calibrate_scores("validation", examples, found, CLASSES)
    assert calibration.scores[0] == pytest.approx(chosen, abs=0.03)


def test_a_score_that_moves_a_little_hardly_moves_the_threshold() -> None:
    """The middle of the best thresholds of these images alone jumps from .70 to .41."""
    there, wrong = EXAMPLES[0].boxes[:1], np.array([ELSEWHERE])
    examples = [EXAMPLES[0]] * 39 + [Example("empty", b"", 1, 1, np.zeros((0, 4)), np.zeros(0, np.int32))] * 3

    def chosen(moving: float) -> float:
        scores = [0.9] * 30 + [0.8] * 5 + [moving] + [0.0] * 3
        found = [Detections(there, np.array([0]), np.array([score])) for score in scores]
        found += [Detections(wrong, np.array([0]), np.array([score])) for score in (0.4, 0.35, 0.6)]
        return calibrate_scores("validation", examples, found, CLASSES).scores[0]

    assert chosen(0.38) == pytest.approx(chosen(0.42), abs=0.05)


def test_a_class_with_few_objects_takes_the_threshold_of_all() -> None:
    few = EXAMPLES[:20]
    found = []
    for number, example in enumerate(few):
        kept = example.labels == 0 if number > 3 else np.ones(len(example.labels), bool)
        scores = np.where(example.labels == 0, 0.8, 0.2)
        found.append(Detections(example.boxes[kept], example.labels[kept], scores[kept]))
    few = [
        Example(e.name, e.encoded, e.width, e.height, e.boxes[: 2 if n < 4 else 1], e.labels[: 2 if n < 4 else 1])
        for n, e in enumerate(few)
    ]
    first, second = calibrate_scores("validation", few, found, CLASSES).scores
    own, common = 0.4, 0.1
    assert first == pytest.approx(shrunk(own, common, weight=20 / 30), abs=0.03)
    assert second == pytest.approx(common, abs=0.02)


def test_a_class_with_many_objects_has_its_own_threshold() -> None:
    found = detections(1, right=(0.8, 0.25), wrong=(0.6, 0.08))
    both = calibrate_scores("validation", EXAMPLES, found, CLASSES).scores
    alone = [only(found, label) for label in range(len(CLASSES))]
    for label, (examples, items) in enumerate(alone):
        assert calibrate_scores("validation", examples, items, CLASSES).scores[label] == pytest.approx(both[label])


def shrunk(own: float, common: float, *, weight: float) -> float:
    logit = weight * np.log(own / (1 - own)) + (1 - weight) * np.log(common / (1 - common))
    return float(1 / (1 + np.exp(-logit)))


def only(found: list[Detections], label: int) -> tuple[list[Example], list[Detections]]:
    """Labels and detections of one class alone."""
    examples = [
        Example(e.name, e.encoded, e.width, e.height, e.boxes[e.labels == label], e.labels[e.labels == label])
        for e in EXAMPLES
    ]
    kept = [item.classes == label for item in found]
    return examples, [
        Detections(f.boxes[mask], f.classes[mask], f.scores[mask]) for f, mask in zip(found, kept, strict=True)
    ]


class ScriptedFile:
    """A detector whose file has the logits of its model, moved class by class as quantisation does it."""

    def __init__(self, moved: tuple[float, float]) -> None:
        self.model = build_detector(architecture=Architecture.FPNLITE_192, width=0.35, classes=2, side=192)
        self.head = self.model.get_layer("class_logits")
        self.found = detections(1, right=(0.35, 0.7), wrong=(0.25, 0.6))
        self._untouched = self.head.bias.numpy()
        self._moved = moved
        self.conversions = 0

    def convert(self) -> bytes:
        self.conversions += 1
        return json.dumps([float(value) for value in self.head.bias.numpy() - self._untouched]).encode()

    def detect(self, data: bytes) -> list[Detections]:
        shifts = np.array(json.loads(data)) + self._moved

        def score(item: Detections) -> Detections:
            logits = np.log(item.scores / (1 - item.scores)) + shifts[item.classes]
            return Detections(item.boxes, item.classes, 1 / (1 + np.exp(-logits)))

        return [score(item) for item in self.found]

    def choose(self, data: bytes) -> ScoreCalibration:
        return calibrate_scores("validation", EXAMPLES, self.detect(data), CLASSES)

    def export(self) -> tuple[bytes, ScoreCalibration]:
        calibration = calibrate_scores("validation", EXAMPLES, self.found, CLASSES)
        calibration.apply(self.model)
        return calibrate_file(self.model, calibration, convert=self.convert, choose=self.choose)


def test_half_is_right_in_the_file_whatever_quantisation_moves() -> None:
    scripted = ScriptedFile(moved=(0.4, -0.25))
    data, calibration = scripted.export()
    assert scripted.conversions == 2
    assert scripted.choose(data).scores == pytest.approx((DEFAULT_THRESHOLD, DEFAULT_THRESHOLD), abs=TOLERANCE)
    assert scripted.choose(json.dumps([0.0, 0.0]).encode()).scores == pytest.approx(calibration.scores, abs=TOLERANCE)
    one, other = (
        evaluate(examples=EXAMPLES, detections=items, classes=CLASSES, side=320)
        for items in (scripted.found, scripted.detect(data))
    )
    assert one.ap50 < 1.0
    assert other == one


def test_a_file_that_quantisation_left_alone_is_made_once() -> None:
    scripted = ScriptedFile(moved=(0.02, -0.02))
    scripted.export()
    assert scripted.conversions == 1


def test_a_file_that_keeps_moving_is_not_made_for_ever() -> None:
    scripted = ScriptedFile(moved=(0.0, 0.0))
    wandering = ScoreCalibration("validation", (0.3, 0.3))
    calibrate_file(scripted.model, wandering, convert=scripted.convert, choose=lambda data: wandering)
    assert scripted.conversions == 3


def test_a_detector_that_finds_nothing_stays_as_it_is() -> None:
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))] * len(EXAMPLES)
    assert calibrate_scores("validation", EXAMPLES, nothing, CLASSES).scores == (0.5, 0.5)


@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.SSD_300, Architecture.DFL_192])
def test_every_logit_of_a_class_is_shifted(architecture: Architecture) -> None:
    side = architecture.side
    model = build_detector(architecture=architecture, width=0.35, classes=3, side=side)
    image = np.random.default_rng(0).random((1, side, side, 3), np.float32)
    logits, codes = model(image, training=False)
    ScoreCalibration("validation", (0.5, 0.3, 0.8)).apply(model)
    shifted_logits, same_codes = model(image, training=False)
    difference = np.asarray(shifted_logits) - np.asarray(logits)
    np.testing.assert_allclose(
        difference[0], np.tile([0.0, np.log(7 / 3), -np.log(4)], (len(difference[0]), 1)), atol=1e-4
    )
    np.testing.assert_array_equal(np.asarray(same_codes), np.asarray(codes))


def test_a_model_without_class_logits_is_refused() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="other")], name="plain")
    with pytest.raises(AtollError, match="plain has no layer class_logits"):
        shift_class_logits(model, [0.1])
