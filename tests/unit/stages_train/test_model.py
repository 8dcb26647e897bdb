"""The detectors' shapes, and that the backbone is keras.applications' MobileNetV2."""

from pathlib import Path

import keras
import numpy as np
import pytest

from atoll_contract.box_distributions import CODES
from atoll_contract.errors import IntegrityError
from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import generate_anchors
from atoll_stages.train.backbone import TOP, mobilenet_v2
from atoll_stages.train.detector import build_detector
from atoll_stages.train.initial_weights import load_imagenet


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        (Architecture.FPNLITE_320, 64),
        (Architecture.FPNLITE_416, 416),
        (Architecture.SSD_300, 300),
        (Architecture.DFL_320, 64),
    ],
)
def test_one_output_row_for_each_anchor(architecture: Architecture, side: int) -> None:
    model = build_detector(architecture=architecture, width=0.35, classes=3, side=side)
    logits, codes = model.output_shape
    count = generate_anchors(architecture, side).count
    assert logits == (None, count, 3)
    assert codes == (None, count, CODES if architecture.has_distributions else 4)


@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.DFL_192])
def test_at_the_start_nothing_is_an_object(architecture: Architecture) -> None:
    model = build_detector(architecture=architecture, width=0.35, classes=2, side=64)
    logits, _ = model(np.zeros((1, 64, 64, 3), np.float32), training=False)
    assert float(keras.ops.max(keras.ops.sigmoid(logits))) < 0.05


def test_the_backbone_computes_what_keras_applications_does(tmp_path: Path) -> None:
    source = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)
    random = np.random.default_rng(0)
    for layer in source.layers:
        layer.set_weights([random.uniform(0.1, 0.3, w.shape).astype(np.float32) for w in layer.get_weights()])
    path = tmp_path / "mobilenet_v2_0.35_224_no_top.weights.h5"
    source.save_weights(path)
    image = keras.Input((96, 96, 3))
    model = keras.Model(image, mobilenet_v2(image, width=0.35, top=True)[TOP])
    assert load_imagenet(model, path, width=0.35) == len([layer for layer in source.layers if layer.weights])
    image_batch = random.uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    np.testing.assert_allclose(
        model(image_batch, training=False), source(image_batch, training=False), rtol=1e-4, atol=1e-4
    )


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    source = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)
    path = tmp_path / "mobilenet_v2_0.5_224_no_top.weights.h5"
    source.save_weights(path)
    model = build_detector(architecture=Architecture.FPNLITE_192, width=0.5, classes=1, side=64)
    with pytest.raises(IntegrityError, match=r"no MobileNetV2 weights of width 0\.5"):
        load_imagenet(model, path, width=0.5)
