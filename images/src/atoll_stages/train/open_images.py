"""The backbone of MediaPipe's object detector, which has learned to detect on Open Images.

The file is the SSD with MobileNetV2 (width 1.0, 300 pixels, 24 classes) of MediaPipe's Objectron, published under the
Apache licence 2.0 with its sha256 (MediaPipe's `third_party/external_files.bzl`). Its arrays are float16, and each
normalisation is folded into the convolution before it. Training needs a normalisation, whose mean and variance are no
longer in the file: they are measured on drawn images whose spectrum is that of photographs, and undone by scale and
offset, so that the backbone computes what it did. Head and box predictors are left.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from atoll_contract.errors import IntegrityError
from atoll_contract.keys import OPEN_IMAGES_WIDTH
from atoll_stages.train.backbone import BATCH_NORM_EPSILON
from atoll_stages.train.slim_names import convolutions

NAME = "object_detection_ssd_mobilenetv2_oidv4_fp16.tflite"
ADDRESS = f"https://storage.googleapis.com/mediapipe-assets/{NAME}"
SHA256 = "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6"

_FOLDED = "/BatchNorm/FusedBatchNormV3"
_KERNEL = "/Conv2D"
_IMAGES, _IMAGES_AT_ONCE, _SIDE = 32, 8, 320
# Channels that are the same everywhere have no variance to divide by.
_MIN_VARIANCE = 1e-6


def load_backbone(path: Path, backbone: keras.Model) -> None:
    """Sets every array of `backbone`, a MobileNetV2 of Keras of width 1.0, from MediaPipe's file.

    Raises:
        IntegrityError: it is not that file.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise IntegrityError(f"{path.name} has sha256 {found}; the one TFLite file that is read is {NAME} ({SHA256})")
    set_folded(backbone, float16_constants(data))


def float16_constants(data: bytes) -> dict[str, list[np.ndarray]]:
    """Returns the float16 arrays of a .tflite file by the first of their names; a kernel and its bias may share one."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # It announces its removal in some later TensorFlow; the version is pinned below that.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=data)
    constants: dict[str, list[np.ndarray]] = {}
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] is np.float16:
            value = interpreter.get_tensor(tensor["index"]).astype(np.float32)
            constants.setdefault(tensor["name"].split(";")[0], []).append(value)
    return constants


def set_folded(backbone: keras.Model, constants: Mapping[str, list[np.ndarray]]) -> None:
    """Sets the convolutions of `backbone`, and normalisations that change nothing but the offset.

    `constants` are those of `float16_constants`: kernels (out, height, width, in), or (1, height, width, channels) of
    depthwise convolutions, and the offsets of the normalisations.

    Raises:
        IntegrityError: an array is missing, or has the shape of another width.
    """
    offsets = {}
    for part in convolutions():
        folded = part.scope + _FOLDED
        kernel = _array(constants, [part.scope + _KERNEL, folded], dimensions=4).transpose(1, 2, 3, 0)
        offset = _array(constants, [folded], dimensions=1)
        variable = backbone.get_layer(part.layer).weights[0]
        if tuple(variable.shape) != kernel.shape or len(offset) not in kernel.shape:
            raise IntegrityError(f"{part.scope} has the shape {kernel.shape}; this width has {tuple(variable.shape)}")
        variable.assign(kernel)
        offsets[part.norm] = offset
    _set_norms(backbone, offsets, dict.fromkeys(offsets, (0.0, 1.0 - BATCH_NORM_EPSILON)))
    # All at once: until the last one is set, the normalisations after it must see what they did.
    _set_norms(backbone, offsets, _measure(backbone, list(offsets)))


def _set_norms(
    backbone: keras.Model,
    offsets: Mapping[str, np.ndarray],
    statistics: Mapping[str, tuple[np.ndarray | float, np.ndarray | float]],
) -> None:
    """Gives each normalisation its mean and variance, and the scale and offset that undo them."""
    for name, offset in offsets.items():
        mean, variance = (np.broadcast_to(np.float32(value), offset.shape) for value in statistics[name])
        backbone.get_layer(name).set_weights([np.sqrt(variance + BATCH_NORM_EPSILON), offset + mean, mean, variance])


def _measure(backbone: keras.Model, names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns mean and variance of what each normalisation is given, over drawn images."""
    image = keras.Input((_SIDE, _SIDE, 3))
    model = keras.applications.MobileNetV2(input_tensor=image, alpha=OPEN_IMAGES_WIDTH, include_top=False, weights=None)
    model.set_weights(backbone.get_weights())
    probe = keras.Model(image, [model.get_layer(name).input for name in names])
    sums = [np.zeros((2, model.get_layer(name).input.shape[-1])) for name in names]
    count = [0] * len(names)
    for batch in _drawn_batches():
        for index, values in enumerate(probe(batch, training=False)):
            rows = values.numpy().reshape(-1, values.shape[-1]).astype(np.float64)
            sums[index] += np.stack([rows.sum(axis=0), (rows**2).sum(axis=0)])
            count[index] += len(rows)
    found = {}
    for name, total, rows in zip(names, sums, count, strict=True):
        mean, square = total / rows
        found[name] = (mean, np.maximum(square - mean**2, _MIN_VARIANCE))
    return found


def _drawn_batches() -> Iterator[np.ndarray]:
    """Yields images (batch, side, side, 3; -1…1), always the same: noise that is the weaker the finer it is, as in
    photographs, and some plain shapes for their edges."""
    random = np.random.default_rng(0)
    for _ in range(_IMAGES // _IMAGES_AT_ONCE):
        yield np.stack([_draw(random) for _ in range(_IMAGES_AT_ONCE)]).astype(np.float32)


def _draw(random: np.random.Generator) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
    amplitude = np.maximum(frequency, 1.0 / _SIDE) ** -random.uniform(1.0, 1.6)

    def noise() -> np.ndarray:
        phase = np.exp(2j * np.pi * random.random(amplitude.shape))
        values = np.fft.irfft2(amplitude * phase, s=(_SIDE, _SIDE))
        return np.asarray((values - values.mean()) / values.std())

    # The colours of a photograph are much alike.
    brightness = noise()
    channels = np.stack([brightness + 0.35 * noise() for _ in range(3)], axis=-1)
    image = channels * random.uniform(0.25, 0.6) + random.uniform(-0.4, 0.3)
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    for _ in range(random.integers(3, 12)):
        center, half = random.uniform(0, _SIDE, 2), random.uniform(8, _SIDE / 3, 2)
        down, right = np.abs(rows - center[0]) / half[0], np.abs(columns - center[1]) / half[1]
        inside = np.hypot(down, right) < 1 if random.random() < 0.5 else np.maximum(down, right) < 1
        image[inside] = image[inside] * random.uniform(0.2, 1.0) + random.uniform(-0.8, 0.8, 3)
    return np.clip(image, -1.0, 1.0)


def _array(constants: Mapping[str, list[np.ndarray]], names: list[str], *, dimensions: int) -> np.ndarray:
    found = [value for name in names for value in constants.get(name, []) if value.ndim == dimensions]
    if len(found) != 1:
        raise IntegrityError(f"the file has {len(found)} arrays of {dimensions} dimensions named {names[0]}, not one")
    return found[0]
