"""The detectors: MobileNetV2 with an FPN-Lite head, and the classic SSD of the first generation.

`build` is a pure function of its arguments. A model maps pictures (batch, side, side, 3; RGB, -1…1) to two outputs:
class logits (batch, anchors, classes) and box codes (batch, anchors, 4), anchors in the order of `anchors_for`.
"""

from __future__ import annotations

import math

import keras

from atoll_contract.stage import Architecture
from atoll_stages.train.anchors import ssd_shapes
from atoll_stages.train.backbone import STRIDE_8, STRIDE_16, STRIDE_32, TOP, batch_norm, divisible, mobilenet_v2

# At the start every anchor says "object" with this probability, so that the many negatives do not swamp the loss
# (Lin et al. 2017).
PRIOR = 0.01
FPN_CHANNELS = {0.35: 48, 0.5: 64, 1.0: 96}
MIN_FPN_CHANNELS = 32
SSD_EXTRA_CHANNELS = (512, 256, 256, 128)


def prior_bias(probability: float = PRIOR) -> float:
    """The logit of `probability`."""
    return math.log(probability / (1 - probability))


def _sep(x: keras.KerasTensor, *, conv: keras.layers.Layer, norm: str, relu: bool = True) -> keras.KerasTensor:
    from keras import layers

    x = batch_norm(norm)(conv(x))
    return layers.ReLU(6.0)(x) if relu else x


def _sep_conv(filters: int, name: str, *, stride: int = 1) -> keras.layers.SeparableConv2D:
    from keras import initializers, layers

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


def _upsample(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Twice the side by repetition, as an op that old Edge TPU compilers know.

    Keras' UpSampling2D sets half_pixel_centers, which makes RESIZE_NEAREST_NEIGHBOR version 3; the values are equal.
    """
    from atoll_stages.train.layers import Upsample

    return Upsample(name=name)(x)


def _pyramid(features: dict[str, keras.KerasTensor], channels: int) -> list[keras.KerasTensor]:
    """Top-down feature pyramid at stride 8, 16, 32, and 64 by one more convolution."""
    from keras import layers

    laterals = [
        batch_norm(f"fpn_lateral_{i}_BN")(
            layers.Conv2D(channels, 1, use_bias=False, name=f"fpn_lateral_{i}")(features[name])
        )
        for i, name in enumerate((STRIDE_8, STRIDE_16, STRIDE_32), start=3)
    ]
    p5 = laterals[2]
    p4 = layers.Add(name="fpn_add_4")([_upsample(p5, "fpn_up_5"), laterals[1]])
    p3 = layers.Add(name="fpn_add_3")([_upsample(p4, "fpn_up_4"), laterals[0]])
    levels = [
        _sep(p, conv=_sep_conv(channels, f"fpn_smooth_{i}"), norm=f"fpn_smooth_{i}_BN")
        for i, p in enumerate((p3, p4, p5), start=3)
    ]
    p6 = _sep(levels[-1], conv=_sep_conv(channels, "fpn_down_6", stride=2), norm="fpn_down_6_BN")
    return [*levels, p6]


def _flatten(x: keras.KerasTensor, columns: int, name: str) -> keras.KerasTensor:
    from keras import layers

    return layers.Reshape((-1, columns), name=name)(x)


def _fpn_head(levels: list[keras.KerasTensor], *, classes: int, channels: int) -> tuple[keras.KerasTensor, ...]:
    """One head for all levels; only its normalisation differs between them (TF-OD's weight-shared predictor)."""
    from keras import initializers, layers

    shared = _sep_conv(channels, "head_shared")
    towers = {"class": _sep_conv(channels, "head_class"), "box": _sep_conv(channels, "head_box")}
    outputs = {
        "class": layers.Conv2D(
            classes,
            1,
            kernel_initializer=initializers.RandomNormal(stddev=0.01),
            bias_initializer=initializers.Constant(prior_bias()),
            name="class_logits",
        ),
        "box": layers.Conv2D(4, 1, kernel_initializer=initializers.RandomNormal(stddev=0.01), name="box_codes"),
    }
    found: dict[str, list[keras.KerasTensor]] = {"class": [], "box": []}
    for level, x in enumerate(levels, start=3):
        x = _sep(x, conv=shared, norm=f"head_shared_{level}_BN")
        for kind, columns in (("class", classes), ("box", 4)):
            y = _sep(x, conv=towers[kind], norm=f"head_{kind}_{level}_BN")
            found[kind].append(_flatten(outputs[kind](y), columns, f"{kind}_flat_{level}"))
    return tuple(layers.Concatenate(axis=1, name=f"{kind}_all")(found[kind]) for kind in ("class", "box"))


def _ssd_levels(features: dict[str, keras.KerasTensor], width: float) -> list[keras.KerasTensor]:
    """Six maps: strides 16 and 32 of the backbone, then four halvings."""
    from keras import layers

    levels = [features[STRIDE_16], features[TOP]]
    for i, full in enumerate(SSD_EXTRA_CHANNELS):
        filters = divisible(full * width)
        x = layers.Conv2D(filters // 2, 1, use_bias=False, name=f"extra_{i}_reduce")(levels[-1])
        x = layers.ReLU(6.0)(batch_norm(f"extra_{i}_reduce_BN")(x))
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"extra_{i}")(x)
        levels.append(layers.ReLU(6.0)(batch_norm(f"extra_{i}_BN")(x)))
    return levels


def _ssd_head(levels: list[keras.KerasTensor], *, classes: int) -> tuple[keras.KerasTensor, ...]:
    from keras import initializers, layers

    logits, codes = [], []
    for i, (x, shapes) in enumerate(zip(levels, ssd_shapes(), strict=True)):
        y = layers.Conv2D(
            len(shapes) * classes,
            1,
            kernel_initializer=initializers.RandomNormal(stddev=0.01),
            bias_initializer=initializers.Constant(prior_bias()),
            name=f"class_logits_{i}",
        )(x)
        z = layers.Conv2D(
            len(shapes) * 4, 1, kernel_initializer=initializers.RandomNormal(stddev=0.01), name=f"box_codes_{i}"
        )(x)
        logits.append(_flatten(y, classes, f"class_flat_{i}"))
        codes.append(_flatten(z, 4, f"box_flat_{i}"))
    return layers.Concatenate(axis=1, name="class_all")(logits), layers.Concatenate(axis=1, name="box_all")(codes)


def fpn_channels(width: float) -> int:
    """Channels of the pyramid at a backbone width."""
    return FPN_CHANNELS.get(width, max(MIN_FPN_CHANNELS, divisible(96 * width)))


def build(*, architecture: Architecture, width: float, classes: int, side: int | None = None) -> keras.Model:
    """The detector for `classes` classes. `side` None leaves height and width open (FPN-Lite: multiples of 32)."""
    import keras

    image = keras.Input((side, side, 3), name="image")
    if architecture is Architecture.SSD_300:
        features = mobilenet_v2(image, width=width, top=True)
        logits, codes = _ssd_head(_ssd_levels(features, width), classes=classes)
    else:
        channels = fpn_channels(width)
        features = mobilenet_v2(image, width=width, top=False)
        logits, codes = _fpn_head(_pyramid(features, channels), classes=classes, channels=channels)
    return keras.Model(image, [logits, codes], name=architecture.replace("-", "_"))
