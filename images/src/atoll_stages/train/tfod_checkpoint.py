"""The backbone of a checkpoint of the TensorFlow Object Detection API: SSD and FPN-Lite SSD with MobileNetV2.

Such a backbone has learned to detect (COCO), not only to classify. Two layouts are known by their names: that of
TF 1 (slim), as the seed's `model.ckpt`, and that of TF 2. Head and pyramid are built otherwise than Atoll's and are
left. The layouts are tested on checkpoints that a test writes; neither was run on a published file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from atoll_contract.errors import IntegrityError
from atoll_stages.train.slim_names import SLIM_SCOPE, convolutions

INDEX = ".index"
TF2 = "model/_feature_extractor/classification_backbone/layer_with_weights-"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def load_backbone(index: Path, backbone: keras.Model) -> None:
    """Sets every array of `backbone`, a MobileNetV2 of Keras, from the checkpoint whose index file is `index`.

    Raises:
        IntegrityError: it is no such checkpoint, or one of another width.
    """
    try:
        arrays = _read(tf.train.load_checkpoint(str(index).removesuffix(INDEX)), index.name, backbone)
    except (tf.errors.OpError, ValueError) as error:
        raise IntegrityError(f"{index.name} cannot be read as a TensorFlow checkpoint: {error}") from None
    for variable in backbone.variables:
        variable.assign(arrays[variable.path])


def _read(reader: tf.train.CheckpointReader, file: str, backbone: keras.Model) -> dict[str, np.ndarray]:
    """Returns the arrays by path; names and shapes are all checked before one is read."""
    shapes: Mapping[str, list[int]] = reader.get_variable_to_shape_map()
    names = next((found for found in (_slim_names(), _tf2_names(backbone)) if shapes.keys() & set(found.values())), {})
    if not names:
        raise IntegrityError(
            f"{file} holds no MobileNetV2 of the TensorFlow Object Detection API: neither {SLIM_SCOPE}… nor {TF2}…"
        )
    for variable in backbone.variables:
        name, shape = names[variable.path], tuple(variable.shape)
        if name not in shapes:
            raise IntegrityError(f"{file} lacks {name}: its backbone is not whole")
        if tuple(shapes[name]) != shape:
            raise IntegrityError(f"{file}: {name} has the shape {tuple(shapes[name])}; this width has {shape}")
    arrays = {v.path: np.asarray(reader.get_tensor(names[v.path]), np.float32) for v in backbone.variables}
    bad = next((path for path, array in arrays.items() if not np.isfinite(array).all()), None)
    if bad is not None:
        raise IntegrityError(f"{file}: {names[bad]} holds numbers that are not finite")
    return arrays


def _slim_names() -> dict[str, str]:
    """The names of TF 1 by the paths of the backbone."""
    names = {}
    for part in convolutions():
        weights = "depthwise_weights" if part.scope.endswith("depthwise") else "weights"
        names[f"{part.layer}/kernel"] = f"{part.scope}/{weights}"
        names |= {f"{part.norm}/{kind}": f"{part.scope}/BatchNorm/{kind}" for kind in STATISTICS}
    return names


def _tf2_names(backbone: keras.Model) -> dict[str, str]:
    """The names of TF 2, which counts the layers that have weights."""
    names = {}
    for number, layer in enumerate(layer for layer in backbone.layers if layer.weights):
        for variable in layer.variables:
            kind = variable.path.rpartition("/")[2]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kind = "depthwise_kernel"
            names[variable.path] = f"{TF2}{number}/{kind}{VALUE}"
    return names
