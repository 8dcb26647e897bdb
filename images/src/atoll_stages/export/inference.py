"""Runs an exported file, and reads its outputs: as pycoral does, or as boxes and scores."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from atoll_contract.box_distributions import has_distributions, read_tensors
from atoll_contract.errors import ModelError, Reason
from atoll_stages.train.detections import Detections

OUTPUTS = 4


class ExportedModel:
    """A .tflite detector, ready to run.

    Raises:
        ModelError: CompileFailed, it has neither the four outputs of a detector nor boxes and scores.
        ValueError, RuntimeError: the interpreter cannot run the data.
    """

    def __init__(self, data: bytes) -> None:
        self._interpreter = _interpreter(data)
        self._interpreter.allocate_tensors()
        self.input: dict[str, Any] = self._interpreter.get_input_details()[0]
        outputs = self._interpreter.get_output_details()
        self._outputs = [item["index"] for item in outputs]
        self._has_distributions = has_distributions(outputs)
        if len(outputs) != OUTPUTS and not self._has_distributions:
            shapes = [item["shape"].tolist() for item in outputs]
            raise ModelError(
                Reason.COMPILE_FAILED,
                f"the exported file has the outputs {shapes}; it must have {OUTPUTS}, or boxes and scores",
            )

    @property
    def side(self) -> int:
        return int(self.input["shape"][1])

    def detect(self, image: np.ndarray) -> Detections:
        """Returns what the file finds in a uint8 image (side, side, 3)."""
        self._interpreter.set_tensor(self.input["index"], image[None])
        self._interpreter.invoke()
        if self._has_distributions:
            found = read_tensors(self._interpreter)
            return Detections(found.boxes, found.classes.astype(np.int32), found.scores)
        boxes, classes, scores, count = (self._interpreter.get_tensor(i) for i in self._outputs)
        n = int(count[0])
        order = np.argsort(-scores[0, :n], kind="stable")
        return Detections(np.clip(boxes[0, order], 0.0, 1.0), classes[0, order].astype(np.int32), scores[0, order])

    def detect_all(self, images: Iterable[np.ndarray]) -> list[Detections]:
        return [self.detect(image) for image in images]


def _interpreter(data: bytes) -> Any:
    """Returns TensorFlow's interpreter where that is loaded, as in the export stage, else LiteRT's: the same code."""
    if sys.modules.get("tensorflow") is None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            pass
        else:
            return Interpreter(model_content=data)
    import tensorflow as tf

    with warnings.catch_warnings():
        # It announces its removal in some later TensorFlow; the version is pinned below that.
        warnings.simplefilter("ignore")
        return tf.lite.Interpreter(model_content=data)
