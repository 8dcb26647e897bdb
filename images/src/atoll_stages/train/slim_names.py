"""What TensorFlow 1's detectors (slim) call the layers of MobileNetV2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atoll_stages.train.backbone import BLOCKS

SLIM_SCOPE = "FeatureExtractor/MobilenetV2/"


@dataclass(frozen=True)
class Convolution:
    """A convolution of the backbone and the normalisation behind it, by Keras' names, and the scope of both in slim."""

    layer: str
    norm: str
    scope: str


def convolutions() -> Iterator[Convolution]:
    """Yields those of the whole backbone, in the order in which an image passes them."""
    yield Convolution("Conv1", "bn_Conv1", f"{SLIM_SCOPE}Conv")
    for block in BLOCKS:
        ours = f"block_{block.index}_" if block.index else "expanded_conv_"
        theirs = f"expanded_conv_{block.index}" if block.index else "expanded_conv"
        for part in ("expand", "depthwise", "project") if block.index else ("depthwise", "project"):
            yield Convolution(f"{ours}{part}", f"{ours}{part}_BN", f"{SLIM_SCOPE}{theirs}/{part}")
    yield Convolution("Conv_1", "Conv_1_bn", f"{SLIM_SCOPE}Conv_1")
