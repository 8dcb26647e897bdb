"""The float ONNX model of a detector, for compilers that quantise by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from atoll_contract.box_distributions import STRIDES

# Every compiler that Atoll knows reads this version of the operator set.
OPSET = 17
# The image is (1, 3, side, side), RGB, -1…1, as ONNX orders it.
INPUT = "image"


class ConverterMissing(Exception):
    """The package tf2onnx is not installed here."""


def level_network(model: keras.Model) -> keras.Model:
    """Returns a detector with distributions, whose outputs are now boxes and scores of each level."""
    outputs = []
    for level in range(3, 3 + len(STRIDES)):
        boxes, logits = (model.get_layer(f"{kind}_flat_{level}").input for kind in ("box", "class"))
        # PhotonVision and Rockchip's own code compare the chip's outputs with scores from 0 to 1.
        outputs += [boxes, layers.Activation("sigmoid", name=f"score_{level}")(logits)]
    return keras.Model(model.input, outputs)


def float_onnx(model: keras.Model, *, side: int, outputs: Sequence[str]) -> bytes:
    """Returns the network without its post-processing as ONNX; `outputs` are the names of its outputs, in their order.

    Outputs with height and width become (1, channels, height, width).

    Raises:
        ConverterMissing: tf2onnx is not installed.
    """
    try:
        import tf2onnx
    except ImportError:
        raise ConverterMissing("tf2onnx is not installed") from None
    trainable = [v.numpy() for v in model.trainable_variables]
    non_trainable = [v.numpy() for v in model.non_trainable_variables]

    def network(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Made within the function: the converter takes what a function captures for further inputs.
        constants = [tf.constant(v) for v in trainable], [tf.constant(v) for v in non_trainable]
        found, _ = model.stateless_call(*constants, image, training=False)
        return tuple(_as_onnx(tensor) for tensor in found)

    signature = [tf.TensorSpec([1, side, side, 3], tf.float32, name=INPUT)]
    converted, _ = tf2onnx.convert.from_function(
        tf.function(network, input_signature=signature),
        input_signature=signature,
        opset=OPSET,
        inputs_as_nchw=[f"{INPUT}:0"],
    )
    _name_outputs(converted.graph, outputs)
    data: bytes = converted.SerializeToString()
    return data


def _as_onnx(tensor: tf.Tensor) -> tf.Tensor:
    return tf.transpose(tensor, [0, 3, 1, 2]) if tensor.shape.rank == 4 else tf.identity(tensor)


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """Gives the outputs of an ONNX graph names in place of those that the converter chose."""
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    for node in graph.node:
        for tensors in (node.input, node.output):
            for position, tensor in enumerate(tensors):
                tensors[position] = renamed.get(tensor, tensor)
    for output in graph.output:
        output.name = renamed[output.name]
