"""The backbone of MediaPipe's detector. The tests write arrays as its file has them; they do not have the file itself,
whose digest is that of the published one."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.errors import IntegrityError
from atoll_contract.store.directory import DirStore
from atoll_contract.tool_reports import WeightsRecord
from atoll_contract.train_spec import Architecture, StartWeights, TrainedOn
from atoll_stages.train import open_images
from atoll_stages.train.detector import build_detector
from atoll_stages.train.fetch_weights import weights_file
from atoll_stages.train.initial_weights import ModelInfo, load_initial_weights
from atoll_stages.train.open_images import float16_constants, load_backbone, set_folded

SCOPE = "FeatureExtractor/MobilenetV2/"
FOLDED = "/BatchNorm/FusedBatchNormV3"


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a test has time for."""
    monkeypatch.setattr(open_images, "_IMAGES", 8)


def backbone(side: int = 96) -> keras.Model:
    return keras.applications.MobileNetV2((side, side, 3), alpha=1.0, include_top=False, weights=None)


def scope(layer: str) -> str:
    """Written by hand for the layers that are unlike each other; the rest follows the pattern."""
    if layer in ("Conv1", "Conv_1"):
        return SCOPE + {"Conv1": "Conv", "Conv_1": "Conv_1"}[layer]
    if layer.startswith("block_"):
        _, number, part = layer.split("_")
        return f"{SCOPE}expanded_conv_{number}/{part}"
    return f"{SCOPE}expanded_conv/{layer.removeprefix('expanded_conv_')}"


@pytest.fixture(scope="module")
def folded() -> tuple[keras.Model, dict[str, list[np.ndarray]]]:
    """A backbone with random normalisations, and its arrays with these folded into the convolutions."""
    model, random = backbone(), np.random.default_rng(3)
    constants: dict[str, list[np.ndarray]] = {}
    layers = iter(layer for layer in model.layers if layer.weights)
    for layer, norm in zip(layers, layers, strict=True):
        channels = norm.gamma.shape[0]
        scale, offset = random.uniform(0.8, 1.2, channels), random.normal(0, 0.3, channels)
        mean, variance = random.normal(0, 0.1, channels), random.uniform(0.5, 1.0, channels)
        norm.set_weights([scale, offset, mean, variance])
        (kernel,) = layer.get_weights()
        factor = scale / np.sqrt(variance + norm.epsilon)
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        stored = (kernel * (factor[:, None] if depthwise else factor)).transpose(3, 0, 1, 2)
        name = scope(layer.name)
        constants[name + FOLDED] = [(offset - mean * factor).astype(np.float32)]
        constants.setdefault(name + (FOLDED if depthwise else "/Conv2D"), []).append(stored.astype(np.float32))
    return model, constants


def test_the_backbone_computes_what_the_file_does(
    folded: tuple[keras.Model, dict[str, list[np.ndarray]]],
) -> None:
    before, constants = folded
    model = backbone()
    set_folded(model, constants)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    wanted = before(images, training=False).numpy()
    np.testing.assert_allclose(model(images, training=False).numpy(), wanted, atol=1e-3 * wanted.std())
    # In training, when a normalisation takes mean and variance of the batch, it stays near: the statistics are those
    # of images, not those that a new layer has.
    drawn = next(open_images._drawn_batches())
    trained = backbone(drawn.shape[1])
    trained.set_weights(model.get_weights())
    still, moving = (trained(drawn, training=training).numpy() for training in (False, True))
    new = backbone(drawn.shape[1])
    new.set_weights(model.get_weights())
    for layer in new.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            offset = layer.beta - layer.moving_mean
            count = len(offset)
            layer.set_weights([np.ones(count), offset, np.zeros(count), np.full(count, 1.0 - layer.epsilon)])
    unmeasured = new(drawn, training=True).numpy()
    assert np.abs(moving - still).mean() < 0.5 * np.abs(unmeasured - still).mean()


def test_float16_arrays_are_found_by_their_names() -> None:
    inputs = keras.Input((8, 8, 3), batch_size=1)
    layer = keras.layers.Conv2D(5, 1, name="one")
    model = keras.Model(inputs, layer(inputs))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    found = [value for values in float16_constants(converter.convert()).values() for value in values]
    kernel = next(value for value in found if value.ndim == 4)
    np.testing.assert_allclose(kernel.transpose(1, 2, 3, 0), layer.get_weights()[0], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (f"{SCOPE}expanded_conv_9/expand/Conv2D", [], r"0 arrays of 4 dimensions named .*expanded_conv_9/expand"),
        (f"{SCOPE}Conv/Conv2D", [np.ones((16, 3, 3, 3), np.float32)], r"\(3, 3, 3, 16\); this width has"),
    ],
)
def test_another_model_is_refused(
    name: str, value: list[np.ndarray], told: str, folded: tuple[keras.Model, dict[str, list[np.ndarray]]]
) -> None:
    with pytest.raises(IntegrityError, match=told):
        set_folded(backbone(), folded[1] | {name: value})


def test_any_other_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(b"TFL3")
    with pytest.raises(IntegrityError, match=rf"other\.tflite has sha256 .*{open_images.SHA256}"):
        load_backbone(path, backbone())
    found = weights_file(1.0, path, tmp_path)
    assert found.problem is not None
    assert "the one TFLite file that is read" in found.problem


def test_it_is_fetched_and_a_training_says_that_it_starts_from_it(
    folded: tuple[keras.Model, dict[str, list[np.ndarray]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get_file(name: str, origin: str, **_: object) -> str:
        asked.append(origin)
        path = tmp_path / name
        path.write_bytes(b"")
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr(open_images, "load_backbone", lambda path, model: set_folded(model, folded[1]))
    found = weights_file(1.0, None, tmp_path, trained_on=TrainedOn.OPEN_IMAGES)
    assert asked == [open_images.ADDRESS]
    name = "mobilenet_v2_1.0_224_no_top.weights.h5"
    assert (found.problem, Path(found.path).name) == (None, name)
    assert found.source_sha256
    store, work = DirStore(tmp_path / "store"), tmp_path / "work"
    work.mkdir()
    store.upload(keys.weights(name), Path(found.path))
    info = ModelInfo(Architecture.FPNLITE_192, 1.0, ("ball",))
    model = build_detector(architecture=info.architecture, width=info.width, classes=1)
    monkeypatch.delenv("ATOLL_WEIGHTS_DIR", raising=False)
    unnamed = load_initial_weights(model, StartWeights(), info=info, store=store, work=work)
    store.put(keys.weights_record(name), to_json(WeightsRecord(found.source, found.sha256)))
    named = load_initial_weights(model, StartWeights(), info=info, store=store, work=work)
    # The last layers of the backbone are not used by this detector.
    assert (unnamed, named) == (f"ImageNet weights {name} (102 layers)", f"Open Images weights {name} (102 layers)")
    kernel = model.get_layer("block_16_project").get_weights()[0]
    stored = folded[1][f"{SCOPE}expanded_conv_16/project/Conv2D"][0]
    np.testing.assert_array_equal(kernel, stored.transpose(1, 2, 3, 0))
