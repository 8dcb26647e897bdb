"""Other people's runtimes find in a file what Atoll finds in it: OpenCV itself, and Frigate by its rules."""

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from atoll_contract.images import decode
from atoll_stages.export.inference import ExportedModel
from atoll_stages.export.metadata import add_metadata
from atoll_stages.train.detections import Detections
from support.coloured_squares import coloured_png, squares
from support.edge_model import LABELS, SIDE, colour_detector

IMAGES = [decode(coloured_png(found), SIDE) for found in squares(3, 4)]
# What Frigate takes of a picture, and from which score on.
FRIGATE_SCORE, FRIGATE_COUNT = 0.4, 20


@pytest.fixture(scope="module")
def model() -> bytes:
    """The form that a release has: with metadata."""
    return add_metadata(colour_detector(), name="squares", labels=LABELS)


def frigate_detections(data: bytes, image: np.ndarray) -> np.ndarray:
    """Frigate's reading of an ssd: rows of class, score, ymin, xmin, ymax, xmax; the file's outputs are taken as boxes,
    classes, scores and count in this order, and reading ends at the first score that is too low."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    details = interpreter.get_output_details()
    assert interpreter.get_input_details()[0]["dtype"] == np.uint8
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    boxes, classes, scores, count = (interpreter.get_tensor(item["index"])[0] for item in details)
    rows = np.zeros((FRIGATE_COUNT, 6), np.float32)
    for row in range(min(int(count), FRIGATE_COUNT)):
        if scores[row] < FRIGATE_SCORE:
            break
        rows[row] = [classes[row], scores[row], *boxes[row]]
    return rows


def opencv_detections(data: bytes, image: np.ndarray) -> np.ndarray:
    """What OpenCV finds in RGB, as rows of class, score, ymin, xmin, ymax, xmax. It takes the bytes as they are."""
    network = cv2.dnn.readNetFromTFLite(np.frombuffer(data, np.uint8))
    network.setInput(cv2.dnn.blobFromImage(image, 1.0, (SIDE, SIDE)))
    # Some versions name the parts of the one output, too, and leave them empty.
    (output,) = (item for item in network.forward(network.getUnconnectedOutLayersNames()) if item is not None)
    rows = output.reshape(-1, 7)[:, [1, 2, 4, 3, 6, 5]]
    return np.array(rows[rows[:, 1] > 0])


def assert_same(rows: np.ndarray, expected: Detections) -> None:
    rows = rows[np.argsort(-rows[:, 1], kind="stable")]
    assert len(expected) == len(rows) == 2
    order = np.lexsort((rows[:, 0], -rows[:, 1]))
    np.testing.assert_array_equal(rows[order, 0], expected.classes)
    np.testing.assert_allclose(rows[order, 1], expected.scores, atol=1e-6)
    np.testing.assert_allclose(np.clip(rows[order, 2:], 0, 1), expected.boxes, atol=1e-4)


@pytest.mark.parametrize("image", IMAGES)
def test_frigates_ssd_reader_finds_the_same(model: bytes, image: np.ndarray) -> None:
    rows = frigate_detections(model, image)
    assert_same(rows[rows[:, 1] > 0], ExportedModel(model).detect(image))


@pytest.mark.parametrize("image", IMAGES)
def test_opencv_finds_the_same(model: bytes, image: np.ndarray) -> None:
    assert_same(opencv_detections(model, image), ExportedModel(model).detect(image))
