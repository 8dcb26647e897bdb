"""Conversion of a Keras detector to a full-int8 .tflite, with or without the detection post-processing op.

Two properties of the converter shape this module: it loses the composite post-processing function unless that comes
through a SavedModel, and it derives the input's range from the calibration images.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from atoll_contract.box_distributions import IOU_THRESHOLD, MAX_DETECTIONS, SCORE_THRESHOLD
from atoll_contract.errors import ModelError, Reason
from atoll_contract.images import INPUT_SCALE, INPUT_ZERO_POINT
from atoll_contract.stage import ExportSpec
from atoll_stages.train.anchors import BOX_SCALES, AnchorSet
from atoll_stages.train.dataset import Example

POSTPROCESS = "TFLite_Detection_PostProcess"
# The outputs of a file without it, in the order that `order_outputs` gives them.
RAW_OUTPUTS = ("boxes", "scores")
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Postprocess:
    """Attributes of the post-processing op. Its regular NMS suppresses per class, as `FloatDetector` does."""

    max_detections: int
    classes: int
    score_threshold: float = SCORE_THRESHOLD
    iou_threshold: float = IOU_THRESHOLD

    def signature(self) -> str:
        """Returns the composite function's name and attributes, in the text form that the converter parses."""
        y, x, h, w = BOX_SCALES
        numbers = {
            "max_detections": f"i: {self.max_detections}",
            "max_classes_per_detection": "i: 1",
            "detections_per_class": f"i: {self.max_detections}",
            "use_regular_nms": "b: true",
            "nms_score_threshold": f"f: {self.score_threshold:f}",
            "nms_iou_threshold": f"f: {self.iou_threshold:f}",
            "num_classes": f"i: {self.classes}",
            "y_scale": f"f: {y:f}",
            "x_scale": f"f: {x:f}",
            "h_scale": f"f: {h:f}",
            "w_scale": f"f: {w:f}",
        }
        attributes = (f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in numbers.items())
        return " ".join([f'name: "{POSTPROCESS}"', *attributes])


def kept_detections(spec: ExportSpec, examples: Sequence[Example]) -> int:
    """Returns how many detections the file gives: the run's number, or twice the objects of the busiest image.

    The post-processing op runs on the device's CPU with every frame, so it keeps no more than the data can need. Who
    reads a file without it suppresses by himself, and keeps all that counts.
    """
    if spec.train.architecture.has_distributions:
        return MAX_DETECTIONS
    busiest = max((len(e.labels) for e in examples), default=0)
    return min(MAX_DETECTIONS, max(spec.max_detections, 2 * busiest))


def convert(
    model: keras.Model, *, anchors: AnchorSet, side: int, post: Postprocess, calibration: Sequence[np.ndarray]
) -> bytes:
    """Returns the int8 file as the converter makes it; `flatbuffer.fix_outputs` must still put its outputs in order.

    `model` has fixed height and width; `calibration` are uint8 images (side, side, 3).

    Raises:
        ModelError: CompileFailed, the converter refuses the graph.
    """
    return _convert_module(_detector_module(model, anchors, side, post), calibration, output_type=tf.float32)


def convert_raw(model: keras.Model, *, side: int, calibration: Sequence[np.ndarray]) -> bytes:
    """Returns an int8 file whose outputs are box codes and class logits in int8, as the converter orders them.

    The only class of a model comes twice, since Frigate takes an output with one column for no scores.

    Raises:
        ModelError: CompileFailed, the converter refuses the graph.
    """

    def network(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, codes = run(image)
        scores = tf.concat([logits, logits], axis=-1) if logits.shape[-1] == 1 else logits
        return dict(zip(RAW_OUTPUTS, (codes, scores), strict=True))

    run = _constant_network(model)
    return _convert_module(_image_module(network, side), calibration, output_type=tf.int8)


def _convert_module(module: tf.Module, calibration: Sequence[np.ndarray], *, output_type: tf.DType) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The converter announces its removal in some later TensorFlow; the version is pinned below that.
        warnings.simplefilter("ignore")
        saved = Path(folder) / "saved"
        tf.saved_model.save(module, str(saved), signatures=module.detect.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: calibration_inputs(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = output_type
        converter.allow_custom_ops = True
        try:
            data: bytes = converter.convert()
        except (ValueError, RuntimeError) as error:
            raise ModelError(Reason.COMPILE_FAILED, f"the TFLite converter refused the model: {error}") from None
    return data


def _detector_module(model: keras.Model, anchors: AnchorSet, side: int, post: Postprocess) -> tf.Module:
    """A module with one function: float images (1, side, side, 3) to boxes, classes, scores and count."""

    def postprocess_stub(boxes: tf.Tensor, scores: tf.Tensor, anchor_boxes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # The converter replaces the call by its custom op; only the signature matters.
        del boxes, scores, anchor_boxes
        return tuple(tf.constant(0.0, name=name) for name in ("boxes", "classes", "scores", "count"))

    postprocess = tf.function(postprocess_stub, experimental_implements=post.signature())

    def detect(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits, codes = run(image)
        outputs: tuple[tf.Tensor, ...] = postprocess(codes, tf.sigmoid(logits), tf.constant(anchors.boxes))
        return outputs

    run = _constant_network(model)
    return _image_module(detect, side)


def _constant_network(model: keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns the model with its weights as constants: the converter of TensorFlow 2.21 leaves Keras 3 variables
    unfrozen, as READ_VARIABLE operations that neither calibration nor any device can run."""
    trainable = [tf.constant(v.numpy()) for v in model.trainable_variables]
    non_trainable = [tf.constant(v.numpy()) for v in model.non_trainable_variables]

    def run(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        (logits, codes), _ = model.stateless_call(trainable, non_trainable, image, training=False)
        return logits, codes

    return run


def _image_module(function: Callable[[tf.Tensor], Any], side: int) -> tf.Module:
    module = tf.Module()
    module.detect = tf.function(function, input_signature=[tf.TensorSpec([1, side, side, 3], tf.float32, name="image")])
    return module


def calibration_inputs(images: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yields the images as floats -1…1, the first with one black and one white pixel.

    With these the input's scale is that of raw bytes, which pycoral and the edge agent pass to the model.
    """
    for number, image in enumerate(images):
        values = image.astype(np.float32)[None] / 127.5 - 1.0
        if number == 0:
            values[0, 0, 0, :], values[0, 0, 1, :] = -1.0, 1.0
        yield [values]


def check_input(details: dict[str, Any]) -> None:
    """Checks that the input takes raw RGB bytes; `details` are the interpreter's.

    Raises:
        ModelError: CompileFailed, the type, scale or zero point differs.
    """
    scale, zero_point = details["quantization"]
    correct = np.dtype(details["dtype"]) == np.uint8 and zero_point == INPUT_ZERO_POINT
    if not correct or abs(scale - INPUT_SCALE) > SCALE_TOLERANCE:
        raise ModelError(
            Reason.COMPILE_FAILED,
            f"the exported input is {np.dtype(details['dtype'])} with scale {scale:.6g} and zero point {zero_point}; "
            f"it must be uint8 with {INPUT_SCALE:.6g} and {INPUT_ZERO_POINT}",
        )
