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


@pytest.mark.parametrize(
    ("architecture", "towers", "levels"),
    [
        # The names are those of every release: their weights are found by them.
        (Architecture.FPNLITE_192, ["head_box", "head_class"], (3, 4, 5, 6)),
        (
            Architecture.DFL_192,
            ["head_box", "head_box_layer_2", "head_class", "head_class_layer_2"],
            (3, 4, 5),
        ),
    ],
)
def test_levels_share_the_layers_of_the_towers_and_have_normalisations_of_their_own(
    architecture: Architecture, towers: list[str], levels: tuple[int, ...]
) -> None:
    model = build_detector(architecture=architecture, width=0.35, classes=2, side=64)
    convolutions = ["head_shared", *towers]
    normalisations = [f"{name}_{level}_BN" for name in convolutions for level in levels]
    found = [layer.name for layer in model.layers if layer.name.startswith("head_")]
    assert sorted(found) == sorted([*convolutions, *normalisations])


def test_a_distribution_head_sees_farther_than_its_neighbours() -> None:
    # Two layers of a tower and the shared one, each of 3 by 3 cells, behind the pyramid's own.
    model = build_detector(architecture=Architecture.DFL_192, width=0.35, classes=1, side=192)
    start, end = (model.get_layer(name).output for name in ("fpn_smooth_3_BN", "class_flat_3"))
    head = keras.Model(start, end)
    features = np.random.default_rng(0).normal(size=(1, 24, 24, start.shape[-1])).astype(np.float32)
    changed = features.copy()
    changed[0, 12, 12] += 1.0
    difference = np.abs(head(features, training=False) - head(changed, training=False)).reshape(24, 24)
    rows = np.flatnonzero(difference.max(axis=1))
    assert (rows.min(), rows.max()) == (12 - 3, 12 + 3)


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
