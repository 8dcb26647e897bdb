"""A small training of a detector with distributions: it learns, and its file is read alike by everyone."""

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from atoll_contract import images as preprocess
from atoll_contract.train_spec import Architecture
from atoll_stages.export.head_files import files_of
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.dataset import BatchLoader, Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.detector import build_detector
from atoll_stages.train.evaluate import evaluate
from atoll_stages.train.initial_weights import assign_weights, weights_by_path
from atoll_stages.train.optimizer import LearningRateSchedule
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings
from support.detection_data import CLASSES, labelled_images
from support.field_readers import Int8Output, Reading, by_stride, frigate, overlap, photonvision, quantised

STEPS, BATCH = 400, 8
SIDE = 96
ARCHITECTURE = Architecture.DFL_192
SETTINGS = TrainerSettings(ARCHITECTURE, 0.35, len(CLASSES), seed=1, side=SIDE, ema_decay=0.95)
MIN_SCORE = 0.4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated.*:UserWarning"),
]


@pytest.fixture(scope="module")
def validation() -> Sequence[Example]:
    return labelled_images(12, first=100)


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = Trainer(SETTINGS)
    trainer.average.reset()
    rate = LearningRateSchedule(3e-3, STEPS)
    with BatchLoader(labelled_images(24), side=128, batch_size=BATCH, sampling=Sampling(1)) as loader:
        for step in range(STEPS):
            trainer.train_step(loader.batch(step), step=step, learning_rate=rate.at(step), side=SIDE)
    return trainer


def test_it_learns(trained: Trainer, validation: Sequence[Example]) -> None:
    found = trained.detect_averaged(validation)
    metrics = evaluate(examples=validation, detections=found, classes=CLASSES, side=SIDE)
    assert metrics.ap50 > 0.6


@pytest.fixture(scope="module")
def fixed(trained: Trainer) -> Trainer:
    """The same with the averaged weights, and a model of fixed size in which the best scores are above one half."""
    with trained.average.applied():
        weights = weights_by_path(trained.model)
    model = build_detector(architecture=ARCHITECTURE, width=0.35, classes=len(CLASSES), side=ARCHITECTURE.side)
    assert not assign_weights(model, weights)
    trained.model = model
    return trained


def test_frigate_and_photonvision_find_what_atoll_finds(fixed: Trainer, validation: Sequence[Example]) -> None:
    side = ARCHITECTURE.side
    images = [preprocess.decode(example.encoded, side) for example in validation]
    data = files_of(ARCHITECTURE).int8(fixed.model, name="m", labels=CLASSES, calibration=images)
    file = ExportedModel(data)
    equal: list[bool] = []
    for image in images:
        ours, (boxes, scores) = readings(file.detect(image)), int8_outputs(data, image)
        levels = by_stride(boxes.real[0], scores.real[0], side)
        six = [
            quantised(level[None], low=0.0, high=1.0) if place % 2 else quantised(level[None])
            for place, level in enumerate(levels)
        ]
        for theirs in (frigate([boxes, scores], side), photonvision(six, side, min_score=MIN_SCORE)):
            equal += [any(is_equal(item, own) for own in ours) for item in theirs]
    assert len(equal) > 2 * len(images)
    # The three suppress by rules of their own: of boxes that cover one another they may keep different ones.
    assert np.mean(equal) >= 0.95


def is_equal(item: Reading, own: Reading) -> bool:
    return own.label == item.label and overlap(np.array(own.box), np.clip(item.box, 0.0, 1.0)) >= 0.95


def readings(found: Detections) -> list[Reading]:
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return [Reading(label, score, tuple(box)) for label, score, box in rows]


def int8_outputs(data: bytes, image: np.ndarray) -> list[Int8Output]:
    interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    details = interpreter.get_output_details()
    return [Int8Output(interpreter.get_tensor(item["index"]), *item["quantization"]) for item in details]
