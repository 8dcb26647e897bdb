"""Outputs are read as pycoral's `detect.get_objects` reads them: by signature, else by the size of the last tensor.

Two outputs are boxes, as distributions, and scores.
"""

from typing import Any

import numpy as np
import pytest

from atoll_edge.detector.outputs import OutputsError, read_outputs

BOXES = np.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1.2, 1.0], [9.0, 9.0, 9.0, 9.0]]], np.float32)
CLASSES = np.array([[1.0, 0.0, 7.0]], np.float32)
SCORES = np.array([[0.6, 0.9, 0.8]], np.float32)
COUNT = np.array([2.0], np.float32)


class Tensors:
    """An interpreter after `invoke`: tensors by position, and by name where it has a signature."""

    def __init__(self, *tensors: Any, signature: dict[str, int] | None = None) -> None:
        self._tensors = tensors
        self._signature = signature

    def _get_full_signature_list(self) -> dict[str, Any]:
        return {} if self._signature is None else {"serving_default": {"inputs": {}, "outputs": self._signature}}

    def get_output_details(self) -> list[dict[str, int]]:
        return [{"index": index} for index in range(len(self._tensors))]

    def get_tensor(self, index: int) -> Any:
        return self._tensors[index]


ORDERS = {
    "TensorFlow 1": Tensors(BOXES, CLASSES, SCORES, COUNT),
    "TensorFlow 2 without signature": Tensors(SCORES, BOXES, COUNT, CLASSES),
    "signature": Tensors(
        CLASSES, COUNT, BOXES, SCORES, signature={"output_0": 1, "output_1": 3, "output_2": 0, "output_3": 2}
    ),
}


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_gives_the_same_detections(order: str) -> None:
    reading = read_outputs(ORDERS[order])
    assert [(item.class_id, round(item.score, 3)) for item in reading.detections] == [(0, 0.9), (1, 0.6)]
    assert reading.detections[1].box == pytest.approx((0.1, 0.2, 0.3, 0.4))


class Int8Tensors:
    """An interpreter after `invoke` whose outputs are int8."""

    def __init__(self, *tensors: Any) -> None:
        self._tensors = tensors

    def _get_full_signature_list(self) -> dict[str, Any]:
        return {}

    def get_output_details(self) -> list[dict[str, Any]]:
        return [
            {"index": index, "shape": np.array(tensor.shape), "quantization": (0.1, -28)}
            for index, tensor in enumerate(self._tensors)
        ]

    def get_tensor(self, index: int) -> Any:
        return self._tensors[index]


def test_boxes_and_scores_are_decoded_and_suppressed() -> None:
    # An input of 64 pixels has 64, 16 and 4 cells of the strides 8, 16 and 32.
    boxes, scores = np.full((1, 84, 64), -128, np.int8), np.full((1, 84, 2), -128, np.int8)
    for cell, class_id, score in ((9, 1, 12), (10, 1, 2), (80, 0, -8)):
        scores[0, cell, class_id] = score
        # One stride to the left and up, two to the right and down.
        boxes[0, cell, [1, 17, 34, 50]] = 127
    reading = read_outputs(Int8Tensors(boxes, scores))
    assert [(found.class_id, round(found.score, 3)) for found in reading.detections] == [
        (1, 0.982),
        (1, 0.953),
        (0, 0.881),
    ]
    first, second, large = (found.box for found in reading.detections)
    # Cell 9 is the second of the second row, its neighbour shares half of its box; 80 is the first of stride 32.
    assert first == pytest.approx((0.5 / 8, 0.5 / 8, 3.5 / 8, 3.5 / 8), abs=1e-3)
    assert second == pytest.approx((0.5 / 8, 1.5 / 8, 3.5 / 8, 4.5 / 8), abs=1e-3)
    assert large == pytest.approx((0.0, 0.0, 1.0, 1.0), abs=1e-3)
    assert reading.non_finite == 0
    # A neighbour of the same class that covers most of the first is no other object.
    boxes[0, 10, 16:32] = boxes[0, 10, 48:64] = -128
    boxes[0, 10, [17, 50]] = 127
    boxes[0, 10, :16] = boxes[0, 10, 32:48] = -128
    boxes[0, 10, [2, 33]] = 127
    assert len(read_outputs(Int8Tensors(boxes, scores)).detections) == 2


def test_entries_past_the_count_are_not_read() -> None:
    garbage = SCORES.copy()
    garbage[0, 2] = np.nan
    assert len(read_outputs(Tensors(BOXES, CLASSES, garbage, COUNT)).detections) == 2


def test_numbers_that_are_none_are_left_out_and_counted() -> None:
    broken = SCORES.copy()
    broken[0, 0] = np.inf
    reading = read_outputs(Tensors(BOXES, CLASSES, broken, COUNT))
    assert (len(reading.detections), reading.non_finite) == (1, 1)


@pytest.mark.parametrize(
    "tensors",
    [
        Tensors(BOXES, CLASSES, SCORES),
        Tensors(BOXES, SCORES),
        Int8Tensors(np.zeros((1, 83, 64), np.int8), np.zeros((1, 83, 2), np.int8)),
        Tensors(BOXES[:, :2], CLASSES, SCORES, COUNT),
        Tensors(BOXES, CLASSES, SCORES, np.array([4.0], np.float32)),
        Tensors(BOXES, CLASSES, SCORES, np.array([-1.0], np.float32)),
        Tensors(BOXES, CLASSES, SCORES, np.array([np.nan], np.float32)),
        Tensors(BOXES, CLASSES, SCORES, COUNT, signature={"output_0": 3}),
    ],
)
def test_what_is_no_detector_is_refused(tensors: Tensors | Int8Tensors) -> None:
    with pytest.raises(OutputsError):
        read_outputs(tensors)
