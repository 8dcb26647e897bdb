"""The trained model before quantisation, for comparison."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atoll_contract.errors import IntegrityError
from atoll_contract.stage import Architecture
from atoll_stages.train.anchors import anchors_for
from atoll_stages.train.detections import Detections, suppress, unpack
from atoll_stages.train.detector import build
from atoll_stages.train.initial_weights import About, assign, read_weights

if TYPE_CHECKING:
    import keras

BATCH = 8


def load_float(path: Path, architecture: Architecture) -> tuple[keras.Model, About]:
    """The detector with fixed input size and the file's weights.

    Raises:
        IntegrityError: the file is of another detector or lacks weights.
    """
    values, about = read_weights(path)
    if about.architecture is not architecture:
        raise IntegrityError(f"the weights are of {about.architecture}, the run is of {architecture}")
    model = build(architecture=architecture, width=about.width, classes=len(about.classes), side=architecture.side)
    missed = assign(model, values)
    if missed:
        raise IntegrityError(f"{path.name} lacks {len(missed)} weights, the first is {missed[0]}")
    return model, about


def detect_float(
    model: keras.Model, architecture: Architecture, pictures: Iterable[np.ndarray], *, most: int
) -> list[Detections]:
    """What the float model finds in uint8 pictures, by the same suppression as the exported file."""
    import tensorflow as tf

    anchors = tf.constant(anchors_for(architecture).boxes)

    def predict(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits, codes = model(tf.cast(batch, tf.float32) / 127.5 - 1.0, training=False)
        return suppress(logits, codes, anchors, most=most)

    compiled = tf.function(predict)
    stream, found = iter(pictures), []
    while chunk := list(islice(stream, BATCH)):
        # Always a full batch, so that one trace does.
        padded = np.stack([*chunk, *[np.zeros_like(chunk[0])] * (BATCH - len(chunk))])
        found += unpack(*(t.numpy() for t in compiled(padded)))[: len(chunk)]
    return found
