"""The ImageNet weights of Keras: fetched by Keras or from a file, checked, and named as a training looks for them."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from atoll_contract.files import file_sha256
from atoll_contract.keys import imagenet_names
from atoll_stages.train.fetch_weights import ADDRESS, weights_file

WIDTH = 0.35
MODERN, CLASSIC = imagenet_names(WIDTH)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Keras writes it; random averages stand for those that were learned."""
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=WIDTH, include_top=False, weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(keras.ops.ones_like(layer.moving_mean))
    path = tmp_path_factory.mktemp("given") / "downloaded.weights.h5"
    model.save_weights(path)
    return path


def test_a_file_is_checked_and_gets_the_name_that_a_training_looks_for(given: Path, tmp_path: Path) -> None:
    found = weights_file(WIDTH, given, tmp_path)
    assert found.problem is None
    assert Path(found.path) == tmp_path / MODERN
    assert (found.sha256, found.size) == (file_sha256(given), given.stat().st_size)
    assert found.layers > 100


def test_another_ending_is_that_of_the_older_layout(given: Path, tmp_path: Path) -> None:
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=WIDTH, include_top=False, weights=None)
    model.load_weights(given)
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
        for group in (file, *file.values()):
            for name in set(group.attrs) & {"layer_names", "weight_names"}:
                group.attrs[name] = np.array(group.attrs[name], "S")
    found = weights_file(WIDTH, path, tmp_path)
    assert (found.problem, Path(found.path).name) == (None, CLASSIC)


def test_keras_fetches_its_own_file(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def get_file(name: str, origin: str, **_: Any) -> str:
        asked.append((name, origin))
        # The layout decides, not the name; Keras' own has the older one.
        target = tmp_path / "fetched.h5"
        model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=WIDTH, include_top=False, weights=None)
        model.load_weights(given)
        with h5py.File(target, "w") as file:
            save_weights_to_hdf5_group(file, model)
            for group in (file, *file.values()):
                for name in set(group.attrs) & {"layer_names", "weight_names"}:
                    group.attrs[name] = np.array(group.attrs[name], "S")
        return str(target)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    found = weights_file(WIDTH, None, tmp_path)
    assert asked == [(CLASSIC, ADDRESS + CLASSIC)]
    assert (found.problem, Path(found.path).name, found.source) == (None, CLASSIC, ADDRESS + CLASSIC)


def test_without_internet_the_address_and_the_cause_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_file(*_: Any, **__: Any) -> str:
        raise Exception(f"URL fetch failure on {ADDRESS}{CLASSIC}: None -- no route to host")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    found = weights_file(WIDTH, None, tmp_path)
    assert found.problem == f"{ADDRESS}{CLASSIC} cannot be fetched: URL fetch failure: no route to host"
    assert (found.path, list(tmp_path.iterdir())) == ("", [])


def test_a_file_of_another_width_or_no_such_file_is_a_problem_and_is_not_kept(given: Path, tmp_path: Path) -> None:
    wrong = weights_file(0.5, given, tmp_path)
    assert wrong.problem is not None
    assert "holds no MobileNetV2 weights of width 0.5" in wrong.problem
    absent = weights_file(WIDTH, tmp_path / "none.h5", tmp_path)
    assert absent.problem == f"{tmp_path / 'none.h5'} cannot be read: No such file or directory"
    assert list(tmp_path.iterdir()) == []
