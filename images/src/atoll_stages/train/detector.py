"""The detectors: MobileNetV2 with a feature pyramid and one of two heads, and the classic SSD of the first generation.

A model maps images (batch, side, side, 3; RGB, -1…1) to two outputs: class logits (batch, anchors, classes) and box
codes (batch, anchors, codes), with anchors in the order of `generate_anchors`; `heads` says what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import initializers, layers

from atoll_contract.box_distributions import BINS, CODES
from atoll_contract.errors import ModelError, Reason
from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import ssd_shapes
from atoll_stages.train.backbone import STRIDE_8, STRIDE_16, STRIDE_32, TOP, batch_norm, make_divisible, mobilenet_v2
from atoll_stages.train.layers import Upsample

# The probability of an object that every anchor starts with, so that the many negatives do not dominate the loss
# (Lin et al. 2017).
PRIOR = 0.01
FPN_CHANNELS = {0.35: 48, 0.5: 64, 1.0: 96}
MIN_FPN_CHANNELS = 32
CLASS_LOGITS = "class_logits"
# With this the distances are 1.5 strides at first.
INITIAL_DECAY = 0.5
SSD_EXTRA_CHANNELS = (512, 256, 256, 128)


def build_detector(*, architecture: Architecture, width: float, classes: int, side: int | None = None) -> keras.Model:
    """Returns a detector with new weights.

    `side` None leaves height and width open; FPN-Lite then takes multiples of 32.
    """
    image = keras.Input((side, side, 3), name="image")
    if architecture is Architecture.SSD_300:
        features = mobilenet_v2(image, width=width, top=True)
        logits, codes = _ssd_head(_ssd_levels(features, width), classes=classes)
    else:
        channels = _fpn_channels(width)
        features = mobilenet_v2(image, width=width, top=False)
        levels = _pyramid(features, channels)
        if architecture.has_distributions:
            # The stride of 64 is SSD's alone. Task-aligned assignment finds most objects one level lower than SSD does,
            # where a cell sees half as far; the second layer of the towers makes up for that.
            levels, depth, box_conv = levels[:3], 2, _distribution_conv
        else:
            depth, box_conv = 1, _code_conv
        logits, codes = _fpn_head(levels, classes=classes, channels=channels, depth=depth, box_conv=box_conv)
    return keras.Model(image, [logits, codes], name=architecture.replace("-", "_"))


def _fpn_channels(width: float) -> int:
    """Channels of the pyramid for a width of the backbone."""
    return FPN_CHANNELS.get(width, max(MIN_FPN_CHANNELS, make_divisible(96 * width)))


def _pyramid(features: dict[str, keras.KerasTensor], channels: int) -> list[keras.KerasTensor]:
    """Top-down feature pyramid at strides 8, 16 and 32, and at 64 by one more convolution."""
    laterals = [
        batch_norm(f"fpn_lateral_{i}_BN")(
            layers.Conv2D(channels, 1, use_bias=False, name=f"fpn_lateral_{i}")(features[name])
        )
        for i, name in enumerate((STRIDE_8, STRIDE_16, STRIDE_32), start=3)
    ]
    p5 = laterals[2]
    p4 = layers.Add(name="fpn_add_4")([Upsample(name="fpn_up_5")(p5), laterals[1]])
    p3 = layers.Add(name="fpn_add_3")([Upsample(name="fpn_up_4")(p4), laterals[0]])
    levels = [
        _conv_norm_relu(p, conv=_separable_conv(channels, f"fpn_smooth_{i}"), norm=f"fpn_smooth_{i}_BN")
        for i, p in enumerate((p3, p4, p5), start=3)
    ]
    p6 = _conv_norm_relu(levels[-1], conv=_separable_conv(channels, "fpn_down_6", stride=2), norm="fpn_down_6_BN")
    return [*levels, p6]


def _fpn_head(
    levels: list[keras.KerasTensor],
    *,
    classes: int,
    channels: int,
    depth: int,
    box_conv: Callable[[], keras.layers.Conv2D],
) -> tuple[keras.KerasTensor, ...]:
    """Returns one head for all levels, with a separate normalisation at each (TF-OD's weight-shared predictor).

    Behind a layer for both, classes and boxes have a tower of `depth` layers each.
    """
    shared = _separable_conv(channels, "head_shared")
    towers = {
        kind: [_separable_conv(channels, name) for name in _tower_names(kind, depth)] for kind in ("class", "box")
    }
    outputs = {"class": _class_conv(classes, CLASS_LOGITS), "box": box_conv()}
    found: dict[str, list[keras.KerasTensor]] = {"class": [], "box": []}
    for level, x in enumerate(levels, start=3):
        x = _conv_norm_relu(x, conv=shared, norm=f"head_shared_{level}_BN")
        for kind, columns in (("class", classes), ("box", outputs["box"].filters)):
            y = x
            for conv in towers[kind]:
                y = _conv_norm_relu(y, conv=conv, norm=f"{conv.name}_{level}_BN")
            found[kind].append(_flatten(outputs[kind](y), columns, f"{kind}_flat_{level}"))
    return tuple(layers.Concatenate(axis=1, name=f"{kind}_all")(found[kind]) for kind in ("class", "box"))


def _tower_names(kind: str, depth: int) -> list[str]:
    return [f"head_{kind}", *(f"head_{kind}_layer_{number}" for number in range(2, depth + 1))]


def _ssd_levels(features: dict[str, keras.KerasTensor], width: float) -> list[keras.KerasTensor]:
    """Six feature maps: strides 16 and 32 of the backbone, then four halvings."""
    levels = [features[STRIDE_16], features[TOP]]
    for i, full in enumerate(SSD_EXTRA_CHANNELS):
        filters = make_divisible(full * width)
        x = layers.Conv2D(filters // 2, 1, use_bias=False, name=f"extra_{i}_reduce")(levels[-1])
        x = layers.ReLU(6.0)(batch_norm(f"extra_{i}_reduce_BN")(x))
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"extra_{i}")(x)
        levels.append(layers.ReLU(6.0)(batch_norm(f"extra_{i}_BN")(x)))
    return levels


def _ssd_head(levels: list[keras.KerasTensor], *, classes: int) -> tuple[keras.KerasTensor, ...]:
    logits, codes = [], []
    for i, (x, shapes) in enumerate(zip(levels, ssd_shapes(), strict=True)):
        y = _class_conv(len(shapes) * classes, f"{CLASS_LOGITS}_{i}")(x)
        z = _box_conv(len(shapes) * 4, f"box_codes_{i}")(x)
        logits.append(_flatten(y, classes, f"class_flat_{i}"))
        codes.append(_flatten(z, 4, f"box_flat_{i}"))
    return layers.Concatenate(axis=1, name="class_all")(logits), layers.Concatenate(axis=1, name="box_all")(codes)


def _conv_norm_relu(x: keras.KerasTensor, *, conv: keras.layers.Layer, norm: str) -> keras.KerasTensor:
    return layers.ReLU(6.0)(batch_norm(norm)(conv(x)))


def _separable_conv(filters: int, name: str, *, stride: int = 1) -> keras.layers.SeparableConv2D:
    return layers.SeparableConv2D(
        filters,
        3,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=initializers.HeNormal(),
        pointwise_initializer=initializers.HeNormal(),
        name=name,
    )


def _class_conv(filters: int, name: str) -> keras.layers.Conv2D:
    return layers.Conv2D(
        filters,
        1,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        bias_initializer=initializers.Constant(math.log(PRIOR / (1 - PRIOR))),
        name=name,
    )


def shift_class_logits(model: keras.Model, shifts: Sequence[float]) -> None:
    """Adds `shifts`, one for each class, to every class logit of `model`.

    Raises:
        ModelError: InternalError, the model has no layer of class logits.
    """
    heads = [layer for layer in model.layers if layer.name.startswith(CLASS_LOGITS)]
    if not heads:
        raise ModelError(
            Reason.INTERNAL_ERROR, f"{model.name} has no layer {CLASS_LOGITS}…: its scores stay as they are"
        )
    for layer in heads:
        # The classes of one anchor are neighbours.
        layer.bias.assign_add(np.tile(np.asarray(shifts, np.float32), layer.bias.shape[0] // len(shifts)))


def _box_conv(filters: int, name: str, *, bias: str | keras.initializers.Initializer = "zeros") -> keras.layers.Conv2D:
    kernel = initializers.RandomNormal(stddev=0.01)
    return layers.Conv2D(filters, 1, kernel_initializer=kernel, bias_initializer=bias, name=name)


def _code_conv() -> keras.layers.Conv2D:
    return _box_conv(4, "box_codes")


def _distribution_conv() -> keras.layers.Conv2D:
    """At first every distance is small, one to two strides, as that of most objects at their level."""
    decay = np.tile(-INITIAL_DECAY * np.arange(BINS, dtype=np.float32), 4)
    return _box_conv(CODES, "box_distributions", bias=initializers.Constant(decay))


def _flatten(x: keras.KerasTensor, columns: int, name: str) -> keras.KerasTensor:
    return layers.Reshape((-1, columns), name=name)(x)
