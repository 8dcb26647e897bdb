"""A real conversion of an untrained detector: its tensors, operations, and how pycoral would read it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from atoll_contract import images as preprocess
from atoll_contract.errors import ModelError
from atoll_contract.images import INPUT_SCALE, INPUT_ZERO_POINT
from atoll_contract.train_spec import Architecture
from atoll_stages.export.converter import POSTPROCESS, Postprocess, calibration_inputs, check_input, convert
from atoll_stages.export.edgetpu_mapping import predict_mapping
from atoll_stages.export.flatbuffer import fix_outputs, operations
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.anchors import generate_anchors
from atoll_stages.train.detections import FloatDetector
from atoll_stages.train.detector import build_detector
from support.detection_data import CLASSES, labelled_images

MAX_DETECTIONS = 12
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Conversion:
    raw: bytes
    fixed: bytes
    model: Any


@pytest.fixture(scope="module", params=[Architecture.FPNLITE_192, Architecture.SSD_300])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return Architecture(request.param)


@pytest.fixture(scope="module")
def conversion(architecture: Architecture) -> Conversion:
    side = architecture.side
    model = build_detector(architecture=architecture, width=0.35, classes=len(CLASSES), side=side)
    calibration = [preprocess.decode(e.encoded, side) for e in labelled_images(3)]
    raw = convert(
        model,
        anchors=generate_anchors(architecture),
        side=side,
        # Untrained scores are all near the prior; from 0 on each of them is a detection.
        post=Postprocess(max_detections=MAX_DETECTIONS, classes=len(CLASSES), score_threshold=0.0),
        calibration=calibration,
    )
    return Conversion(raw, fix_outputs(raw, operation=POSTPROCESS), model)


def get_objects(data: bytes, image: np.ndarray) -> list[tuple[int, float, tuple[float, ...]]]:
    """The reading of pycoral's `adapters.detect.get_objects`, on the reference interpreter.

    Without a signature the outputs are taken by position: boxes, classes, scores, count; with one, by the names
    `output_0` (count) to `output_3` (boxes).
    """
    interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    signatures = interpreter._get_full_signature_list()
    if signatures:
        assert len(signatures) == 1
        outputs = signatures[next(iter(signatures))]["outputs"]
        count, scores, classes, boxes = (interpreter.get_tensor(outputs[f"output_{i}"])[0] for i in range(4))
    else:
        details = interpreter.get_output_details()
        boxes, classes, scores, count = (interpreter.get_tensor(item["index"])[0] for item in details)
    return [(int(classes[i]), float(scores[i]), tuple(float(v) for v in boxes[i])) for i in range(int(count))]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated.*:UserWarning")
def test_pycoral_reads_boxes_classes_scores_and_count(conversion: Conversion, architecture: Architecture) -> None:
    image = preprocess.decode(labelled_images(1)[0].encoded, architecture.side)
    found = get_objects(conversion.fixed, image)
    assert 0 < len(found) <= MAX_DETECTIONS
    for label, score, (ymin, xmin, ymax, xmax) in found:
        assert label in range(len(CLASSES))
        assert 0.0 <= score <= 1.0
        assert ymin < ymax
        assert xmin < xmax
    exported = ExportedModel(conversion.fixed).detect(image)
    np.testing.assert_allclose(sorted(exported.scores), sorted(score for _, score, _ in found))


def test_the_fix_changes_no_size_and_is_stable(conversion: Conversion) -> None:
    assert len(conversion.fixed) == len(conversion.raw)
    assert fix_outputs(conversion.fixed, operation=POSTPROCESS) == conversion.fixed


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated.*:UserWarning")
def test_there_are_no_signatures_left(conversion: Conversion) -> None:
    assert tf.lite.Interpreter(model_content=conversion.raw).get_signature_list()
    assert not tf.lite.Interpreter(model_content=conversion.fixed).get_signature_list()


def test_the_input_takes_raw_bytes(conversion: Conversion) -> None:
    details = ExportedModel(conversion.fixed).input
    check_input(details)
    scale, zero_point = details["quantization"]
    assert scale == pytest.approx(INPUT_SCALE)
    assert zero_point == INPUT_ZERO_POINT


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": np.int8, "quantization": (INPUT_SCALE, INPUT_ZERO_POINT)},
        {"dtype": np.uint8, "quantization": (0.0062, 154)},
    ],
)
def test_another_input_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="it must be uint8"):
        check_input(wrong)


def test_nothing_pads_resizes_are_old_and_nearly_all_maps(conversion: Conversion) -> None:
    found = list(operations(conversion.fixed))
    assert not [o for o in found if o.name == "PAD"]
    assert all(o.version <= 2 for o in found if o.name == "RESIZE_NEAREST_NEIGHBOR")
    assert [o.name for o in found if o.custom] == [POSTPROCESS]
    report = predict_mapping(found, size=len(conversion.fixed))
    assert report.refused == ()
    assert report.percent > 90.0
    assert {row.name for row in report.rows if row.status != "Mapped to Edge TPU"} <= {POSTPROCESS, "DEQUANTIZE"}


def test_the_file_agrees_with_the_float_model(conversion: Conversion, architecture: Architecture) -> None:
    images = [preprocess.decode(e.encoded, architecture.side) for e in labelled_images(2, first=50)]
    detector = FloatDetector(conversion.model, architecture, side=architecture.side, max_detections=MAX_DETECTIONS)
    float_detections = detector.detect_all(images)
    int8_detections = ExportedModel(conversion.fixed).detect_all(images)
    # Untrained: every anchor scores the prior of .01, give or take half a step of 1/256.
    for found in int8_detections:
        np.testing.assert_allclose(found.scores, 0.01, atol=1 / 128)
    assert all(len(found) <= MAX_DETECTIONS for found in (*float_detections, *int8_detections))


def test_only_the_first_calibration_image_has_the_whole_range() -> None:
    grey = np.full((4, 4, 3), 127, np.uint8)
    first, second = (sample[0] for sample in calibration_inputs([grey, grey]))
    assert (first.min(), first.max()) == (-1.0, 1.0)
    assert second.max() - second.min() < 1e-6


@pytest.mark.parametrize("data", [b"", b"TFL3", b"x" * 64])
def test_other_bytes_are_no_model(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"no \.tflite file"):
        fix_outputs(data, operation=POSTPROCESS)


def test_a_file_without_the_operation_is_refused(conversion: Conversion) -> None:
    with pytest.raises(ModelError, match="holds no operation Missing"):
        fix_outputs(conversion.raw, operation="Missing")
