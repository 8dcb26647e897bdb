"""The int8 file of a detector with distributions: two outputs that Frigate takes, and nothing for the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from atoll_contract import images as preprocess
from atoll_contract.box_distributions import CODES, cell_count
from atoll_contract.errors import ModelError
from atoll_contract.tflite import read_model
from atoll_contract.train_spec import Architecture
from atoll_stages.export.converter import check_input
from atoll_stages.export.edgetpu_mapping import predict_mapping
from atoll_stages.export.flatbuffer import operations, order_outputs
from atoll_stages.export.head_files import files_of
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.detections import FloatDetector
from atoll_stages.train.detector import build_detector
from support.detection_data import labelled_images
from support.field_readers import Int8Output, frigate, overlap
from support.tflite_metadata import DetectorMetadata, read_metadata

ARCHITECTURE = Architecture.DFL_192
SIDE = ARCHITECTURE.side
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated.*:UserWarning"),
]


@dataclass(frozen=True)
class Exported:
    model: Any
    data: bytes
    images: Sequence[np.ndarray]


def export(classes: int) -> Exported:
    """A detector with random weights that finds something in some cells of every picture."""
    model = build_detector(architecture=ARCHITECTURE, width=0.35, classes=classes, side=SIDE)
    random = np.random.default_rng(0)
    model.set_weights([weight if weight.ndim < 4 else kernel(random, weight.shape) for weight in model.get_weights()])
    images = [preprocess.decode(example.encoded, SIDE) for example in labelled_images(6)]
    logits, _ = model(np.stack(images) / 127.5 - 1.0, training=False)
    model.get_layer("class_logits").bias.assign_add(np.full(classes, -np.percentile(logits, 98), np.float32))
    data = files_of(ARCHITECTURE).int8(model, name="m", labels=tuple("abc")[:classes], calibration=images)
    return Exported(model, data, images)


def kernel(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights with which outputs depend on all that is before them, and stay small."""
    inputs = np.prod(shape[:2]) * (shape[2] if shape[3] > 1 else 1)
    weights: np.ndarray = random.standard_normal(shape) * np.sqrt(1.5 / inputs)
    return weights


@pytest.fixture(scope="module", params=[1, 3])
def exported(request: pytest.FixtureRequest) -> Exported:
    return export(request.param)


def outputs(data: bytes, image: np.ndarray) -> list[Int8Output]:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    details = interpreter.get_output_details()
    assert not interpreter.get_signature_list()
    return [Int8Output(interpreter.get_tensor(item["index"]), *item["quantization"]) for item in details]


def test_the_outputs_are_boxes_and_scores_in_int8(exported: Exported) -> None:
    boxes, scores = outputs(exported.data, exported.images[0])
    cells, columns = cell_count(SIDE), max(2, exported.model.output_shape[0][2])
    assert [output.values.shape for output in (boxes, scores)] == [(1, cells, CODES), (1, cells, columns)]
    assert {str(output.values.dtype) for output in (boxes, scores)} == {"int8"}
    assert boxes.scale > 0 < scores.scale
    if exported.model.output_shape[0][2] == 1:
        np.testing.assert_array_equal(scores.values[..., 0], scores.values[..., 1])
    check_input(ExportedModel(exported.data).input)
    # By their number `atoll pull --for` tells what other programs can run.
    assert len(read_model(exported.data).outputs) == 2


def test_the_file_carries_labels_and_how_its_input_is_normalised(exported: Exported) -> None:
    """One box distribution and one row of scores for each cell: no boxes, so that no reader takes them for such."""
    classes = exported.model.output_shape[0][2]
    assert read_metadata(exported.data) == DetectorMetadata(
        inputs=("image",),
        outputs=("box distributions", "scores"),
        normalization=(127.5, 127.5),
        box_order=(),
        labels=tuple("abc")[:classes],
    )


def test_every_operation_is_predicted_to_map_to_the_edge_tpu(exported: Exported) -> None:
    found = list(operations(exported.data))
    assert not [item.name for item in found if item.custom or item.name in ("PAD", "DEQUANTIZE")]
    report = predict_mapping(found, size=len(exported.data))
    assert (report.percent, report.refused) == (100.0, ())


def test_frigate_finds_the_best_box_where_atoll_finds_it(exported: Exported) -> None:
    model = ExportedModel(exported.data)
    for image in exported.images:
        ours, (best, *_) = model.detect(image), frigate(outputs(exported.data, image), SIDE)
        assert best.label == ours.classes[0]
        assert best.score == pytest.approx(ours.scores[0], abs=1e-4)
        equal = ours.boxes[ours.scores >= ours.scores[0]]
        assert max(overlap(box, np.clip(best.box, 0.0, 1.0)) for box in equal) >= 0.95


def test_the_file_agrees_with_the_float_model(exported: Exported) -> None:
    detector = FloatDetector(exported.model, ARCHITECTURE, side=SIDE, max_detections=100)
    model, close = ExportedModel(exported.data), []
    for image, expected in zip(exported.images, detector.detect_all(exported.images), strict=True):
        found = model.detect(image)
        own = np.flatnonzero(found.classes == expected.classes[0])
        assert len(own)
        close.append(max(overlap(found.boxes[i], expected.boxes[0]) for i in own))
    assert np.median(close) > 0.7


def test_outputs_of_other_names_are_refused(exported: Exported) -> None:
    with pytest.raises(ModelError, match=r"has the outputs \[\]; it must have \['boxes', 'scores'\]"):
        order_outputs(exported.data, names=("boxes", "scores"))
