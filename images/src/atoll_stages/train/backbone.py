"""The MobileNetV2 feature extractor, with the layers of `keras.applications`.

Names and weight shapes are the same, so its ImageNet files load. The one difference: stride-2 convolutions pad with
`same` instead of explicit ZeroPadding2D layers. For even feature sizes the result is equal, and the exported file holds
no PAD operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from atoll_stages.train.layers import FusedBatchNorm

BATCH_NORM_EPSILON = 1e-3
# keras.applications has .999, with which the moving averages would still be near the initial ones after some hundred
# steps.
BATCH_NORM_MOMENTUM = 0.97


@dataclass(frozen=True)
class Block:
    """One inverted residual; the one of `index` 0 has no expansion."""

    index: int
    filters: int
    stride: int
    expansion: int = 6


BLOCKS = (
    Block(0, 16, 1, 1),
    Block(1, 24, 2),
    Block(2, 24, 1),
    Block(3, 32, 2),
    Block(4, 32, 1),
    Block(5, 32, 1),
    Block(6, 64, 2),
    Block(7, 64, 1),
    Block(8, 64, 1),
    Block(9, 64, 1),
    Block(10, 96, 1),
    Block(11, 96, 1),
    Block(12, 96, 1),
    Block(13, 160, 2),
    Block(14, 160, 1),
    Block(15, 160, 1),
    Block(16, 320, 1),
)
# The last feature before each halving of the resolution, by stride. TOP, behind `Conv_1`, is computed only on request.
STRIDE_8, STRIDE_16, STRIDE_32, TOP = (
    "block_6_expand_relu",
    "block_13_expand_relu",
    "block_16_project_BN",
    "out_relu",
)


def mobilenet_v2(image: keras.KerasTensor, *, width: float, top: bool) -> dict[str, keras.KerasTensor]:
    """Returns features of `image` (batch, height, width, 3; values -1…1) by name; `top` adds the last 1280 channels."""
    features: dict[str, keras.KerasTensor] = {}
    x = _conv_bn(
        image,
        filters=make_divisible(32 * width),
        kernel=3,
        stride=2,
        conv="Conv1",
        norm="bn_Conv1",
        relu="Conv1_relu",
    )
    for block in BLOCKS:
        x = _inverted_residual(x, block, width=width, features=features)
    if top:
        filters = make_divisible(1280 * width) if width > 1.0 else 1280
        features[TOP] = _conv_bn(x, filters=filters, kernel=1, stride=1, conv="Conv_1", norm="Conv_1_bn", relu=TOP)
    return features


def _inverted_residual(
    x: keras.KerasTensor, block: Block, *, width: float, features: dict[str, keras.KerasTensor]
) -> keras.KerasTensor:
    channels = x.shape[-1]
    filters = make_divisible(int(block.filters * width))
    prefix = f"block_{block.index}_" if block.index else "expanded_conv_"
    y = x
    if block.index:
        y = _conv_bn(
            y,
            filters=block.expansion * channels,
            kernel=1,
            stride=1,
            conv=f"{prefix}expand",
            norm=f"{prefix}expand_BN",
            relu=f"{prefix}expand_relu",
        )
        features[f"{prefix}expand_relu"] = y
    y = layers.DepthwiseConv2D(3, strides=block.stride, padding="same", use_bias=False, name=f"{prefix}depthwise")(y)
    y = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(batch_norm(f"{prefix}depthwise_BN")(y))
    y = _conv_bn(y, filters=filters, kernel=1, stride=1, conv=f"{prefix}project", norm=f"{prefix}project_BN", relu=None)
    features[f"{prefix}project_BN"] = y
    if block.stride == 1 and channels == filters:
        y = layers.Add(name=f"{prefix}add")([x, y])
    return y


def _conv_bn(
    x: keras.KerasTensor, *, filters: int, kernel: int, stride: int, conv: str, norm: str, relu: str | None
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=conv)(x)
    x = batch_norm(norm)(x)
    return layers.ReLU(6.0, name=relu)(x) if relu else x


def make_divisible(value: float, *, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, never down by more than a tenth (Sandler et al. 2018)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def batch_norm(name: str) -> layers.BatchNormalization:
    """Returns the normalisation layer that is used everywhere in the detector."""
    return FusedBatchNorm(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)
