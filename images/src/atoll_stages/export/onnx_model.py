"""The float ONNX model of a detector, and all else that compilers need which quantise by themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from atoll_contract.document import to_json
from atoll_stages.export.target_inputs import (
    CALIBRATION_ARTIFACT,
    CALIBRATION_NAME,
    HEAD_ARTIFACT,
    HEAD_NAME,
    ONNX_ARTIFACT,
    ONNX_NAME,
    DetectorHead,
    write_calibration,
)
from atoll_stages.train.anchors import BOX_SCALES, MAX_LOG_SIZE, generate_anchors
from atoll_stages.train.detections import IOU_THRESHOLD, SCORE_THRESHOLD
from atoll_stages.train.initial_weights import ModelInfo

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

# Every compiler that Atoll knows reads this version of the operator set.
OPSET = 17
# The image is (1, 3, side, side), RGB, -1…1, as ONNX orders it; the outputs are the network's own, logits and codes.
INPUT = "image"


class ConverterMissing(Exception):
    """The package tf2onnx is not installed here."""


def write_target_inputs(
    folder: Path, model: keras.Model, info: ModelInfo, *, calibration: Sequence[bytes], max_detections: int
) -> dict[str, Path]:
    """Writes the float model, its head and the calibration images into `folder`; returns the files by their artifacts.

    Without the package that converts the model there are none, and every target that needs them says so.
    """
    side = info.architecture.side
    try:
        onnx = float_onnx(model, side=side)
    except ConverterMissing:
        logger.warning("tf2onnx is not installed here: no float ONNX for the other compile targets")
        return {}
    head = DetectorHead(
        side=side,
        classes=info.classes,
        anchors=tuple(tuple(anchor) for anchor in generate_anchors(info.architecture).boxes.tolist()),
        box_scales=BOX_SCALES,
        max_log_size=MAX_LOG_SIZE,
        max_detections=max_detections,
        score_threshold=SCORE_THRESHOLD,
        iou_threshold=IOU_THRESHOLD,
    )
    names = {ONNX_ARTIFACT: ONNX_NAME, HEAD_ARTIFACT: HEAD_NAME, CALIBRATION_ARTIFACT: CALIBRATION_NAME}
    written = {artifact: folder / name for artifact, name in names.items()}
    written[ONNX_ARTIFACT].write_bytes(onnx)
    written[HEAD_ARTIFACT].write_bytes(to_json(head))
    write_calibration(written[CALIBRATION_ARTIFACT], calibration)
    return written


def float_onnx(model: keras.Model, *, side: int) -> bytes:
    """Returns the network without its post-processing as ONNX: class logits and box codes of every anchor.

    Raises:
        ConverterMissing: tf2onnx is not installed.
    """
    try:
        import tf2onnx
    except ImportError:
        raise ConverterMissing("tf2onnx is not installed") from None
    trainable = [v.numpy() for v in model.trainable_variables]
    non_trainable = [v.numpy() for v in model.non_trainable_variables]

    def network(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Made within the function: the converter takes what a function captures for further inputs.
        constants = [tf.constant(v) for v in trainable], [tf.constant(v) for v in non_trainable]
        (logits, codes), _ = model.stateless_call(*constants, image, training=False)
        return tf.identity(logits), tf.identity(codes)

    signature = [tf.TensorSpec([1, side, side, 3], tf.float32, name=INPUT)]
    converted, _ = tf2onnx.convert.from_function(
        tf.function(network, input_signature=signature),
        input_signature=signature,
        opset=OPSET,
        inputs_as_nchw=[f"{INPUT}:0"],
    )
    data: bytes = converted.SerializeToString()
    return data
