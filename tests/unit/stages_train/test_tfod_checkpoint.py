"""The backbone of a TF-OD checkpoint, in the layouts of TF 1 and TF 2 as this test writes them: no published file."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from atoll_contract.errors import IntegrityError
from atoll_stages.train.fetch_weights import weights_file
from atoll_stages.train.tfod_checkpoint import load_backbone

WIDTH = 0.35


def backbone(width: float = WIDTH) -> keras.Model:
    return keras.applications.MobileNetV2((96, 96, 3), alpha=width, include_top=False, weights=None)


@pytest.fixture(scope="module")
def trained() -> dict[str, np.ndarray]:
    """An array for each path of the backbone."""
    random = np.random.default_rng(0)
    return {v.path: random.uniform(0.1, 0.9, v.shape).astype(np.float32) for v in backbone().variables}


def slim_name(path: str) -> str:
    """Written by hand for the layers that are unlike each other; the rest follows the pattern."""
    layer, kind = path.split("/")
    known = {"Conv1": "Conv", "bn_Conv1": "Conv", "Conv_1": "Conv_1", "Conv_1_bn": "Conv_1"}
    stem = layer.removesuffix("_BN")
    if stem.startswith("block_"):
        _, number, part = stem.split("_")
        scope = f"expanded_conv_{number}/{part}"
    elif stem.startswith("expanded_conv_"):
        scope = "expanded_conv/" + stem.removeprefix("expanded_conv_")
    else:
        scope = known[layer]
    if kind != "kernel":
        return f"FeatureExtractor/MobilenetV2/{scope}/BatchNorm/{kind}"
    return f"FeatureExtractor/MobilenetV2/{scope}/{'depthwise_weights' if 'depthwise' in scope else 'weights'}"


def write_slim(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As TF 1 saves: flat names, with what training adds."""
    extra = {"global_step": np.int64(7), "BoxPredictor_0/ClassPredictor/weights": np.ones((1, 1, 8, 6), np.float32)}
    values = {slim_name(name): value for name, value in arrays.items()} | extra
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=list(values.values())
    )
    return path.with_name(path.name + ".index")


def write_tf2(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As TF 2 saves the objects of `model._feature_extractor.classification_backbone`."""
    order = list(dict.fromkeys(name.split("/")[0] for name in arrays))
    values = {}
    for name, value in arrays.items():
        layer, kind = name.split("/")
        attribute = "depthwise_kernel" if layer.endswith("_depthwise") else kind
        prefix = f"model/_feature_extractor/classification_backbone/layer_with_weights-{order.index(layer)}"
        values[f"{prefix}/{attribute}/.ATTRIBUTES/VARIABLE_VALUE"] = value
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=list(values.values())
    )
    return path.with_name(path.name + ".index")


@pytest.mark.parametrize("write", [write_slim, write_tf2])
def test_every_array_of_the_backbone_is_taken_by_its_name(
    write: Callable[[Path, dict[str, np.ndarray]], Path], trained: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = backbone()
    load_backbone(write(tmp_path / "model.ckpt", trained), model)
    for variable in model.variables:
        np.testing.assert_array_equal(variable.numpy(), trained[variable.path])


def test_the_names_of_slim_are_those_of_the_seeds_checkpoint() -> None:
    assert slim_name("block_3_depthwise/kernel") == (
        "FeatureExtractor/MobilenetV2/expanded_conv_3/depthwise/depthwise_weights"
    )
    assert slim_name("expanded_conv_project_BN/beta") == (
        "FeatureExtractor/MobilenetV2/expanded_conv/project/BatchNorm/beta"
    )


def test_it_becomes_a_file_that_a_training_starts_from(trained: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    found = weights_file(WIDTH, write_slim(tmp_path / "model.ckpt", trained), tmp_path / "to")
    assert (found.problem, Path(found.path).name) == (None, "mobilenet_v2_0.35_224_no_top.weights.h5")
    model = backbone()
    model.load_weights(found.path)
    np.testing.assert_array_equal(model.get_layer("Conv1").get_weights()[0], trained["Conv1/kernel"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a.pop("block_9_expand/kernel"), r"lacks .*expanded_conv_9/expand/weights"),
        (lambda a: a.update({"Conv1/kernel": np.ones((3, 3, 3, 32), np.float32)}), r"this width has \(3, 3, 3, 16\)"),
        (lambda a: a["Conv1/kernel"].fill(np.nan), "not finite"),
    ],
)
def test_a_checkpoint_that_is_not_this_backbone_is_refused(
    change: Callable[[dict[str, np.ndarray]], object], told: str, trained: dict[str, np.ndarray], tmp_path: Path
) -> None:
    arrays = {name: value.copy() for name, value in trained.items()}
    change(arrays)
    with pytest.raises(IntegrityError, match=told):
        load_backbone(write_slim(tmp_path / "model.ckpt", arrays), backbone())


def test_other_files_are_refused_with_a_sentence(trained: dict[str, np.ndarray], tmp_path: Path) -> None:
    text = tmp_path / "text.index"
    text.write_text("no checkpoint")
    with pytest.raises(IntegrityError, match=r"text\.index cannot be read as a TensorFlow checkpoint"):
        load_backbone(text, backbone())
    alone = write_slim(tmp_path / "alone", trained)
    alone.with_name("alone.data-00000-of-00001").unlink()
    with pytest.raises(IntegrityError, match=r"alone\.index cannot be read"):
        load_backbone(alone, backbone())
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "other"), tensor_names=["a"], shape_and_slices=[""], tensors=[np.ones(3, np.float32)]
    )
    with pytest.raises(IntegrityError, match="holds no MobileNetV2"):
        load_backbone(tmp_path / "other.index", backbone())
