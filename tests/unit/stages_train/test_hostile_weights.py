"""D20: weight files that are more than arrays. Each is a good file with one thing changed, and is refused unread."""

from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from atoll_contract.errors import AtollError, Reason
from atoll_contract.store.directory import DirStore
from atoll_contract.train_spec import Architecture, InitFrom, StartWeights
from atoll_stages.train.detector import build_detector
from atoll_stages.train.initial_weights import (
    ModelInfo,
    load_imagenet,
    load_initial_weights,
    weights_by_path,
    write_weights,
)

INFO = ModelInfo(Architecture.FPNLITE_192, 0.35, ("a", "b"))
VICTIM = "block_2_depthwise_BN/beta"
KEY = "weights/forum.weights.h5"
CANARY = b"canary-of-the-secret-file"
GIB_3 = (3 * 2**28,)


def small_model() -> keras.Model:
    return build_detector(architecture=INFO.architecture, width=INFO.width, classes=2, side=64)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.h5"
    write_weights(path, weights_by_path(small_model()), INFO)
    return path


def start_from(path: Path, folder: Path, model: keras.Model) -> str:
    store = DirStore(folder / "store")
    put = store.upload(KEY, path)
    start = StartWeights(InitFrom.CHECKPOINT, put.key, put.sha256)
    return load_initial_weights(model, start, info=INFO, store=store, work=folder)


def changed(good: Path, folder: Path, change: Callable[[h5py.File], object]) -> Path:
    path = folder / "evil.h5"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(file: h5py.File, path: str, **settings: object) -> None:
    if path in file:
        del file[path]
    file.create_dataset(path, **settings)


def external(secret: Path) -> Callable[[h5py.File], object]:
    """The victim's bytes are those of another file, as the array's own type where they fill it."""
    return lambda file: put(file, VICTIM, shape=(48,), dtype="uint8", external=[(str(secret), 0, 48)])


def external_floats(secret: Path) -> Callable[[h5py.File], object]:
    return lambda file: put(file, VICTIM, shape=(48,), dtype="float32", external=[(str(secret), 0, 192)])


def virtual(file: h5py.File) -> None:
    del file[VICTIM]
    layout = h5py.VirtualLayout(shape=(48,), dtype="float32")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(48,))
    file.create_virtual_dataset(VICTIM, layout)


def link(target: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[VICTIM]
        file[VICTIM] = target

    return change


def loop(file: h5py.File) -> None:
    file["Conv1/again"] = file["/"]


def groups(file: h5py.File) -> None:
    for number in range(2000):
        file.create_group(f"many/{number}")


def attributes(file: h5py.File) -> None:
    for number in range(20):
        file[VICTIM].attrs[f"a{number}"] = number


def texts(file: h5py.File) -> None:
    file.attrs.create("texts", ["long"] * 3, dtype=h5py.string_dtype())


def test_D20_external_storage_brings_no_secret_into_the_weights(
    good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes of a file that the stage may read must not come out in weights, message or log."""
    secret = tmp_path / "secret"
    secret.write_bytes((CANARY * 10)[:192])
    for change in (external(secret), external_floats(secret)):
        model = small_model()
        before = weights_by_path(model)
        with pytest.raises(AtollError, match=rf'{KEY} .*"{VICTIM}" lies in another file') as raised:
            start_from(changed(good, tmp_path, change), tmp_path, model)
        assert raised.value.reason is Reason.INTEGRITY_MISMATCH
        for name, value in weights_by_path(model).items():
            np.testing.assert_array_equal(value, before[name])
        assert CANARY[:8].decode() not in raised.value.message + caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (virtual, f'dataset "{VICTIM}" is made of other datasets'),
        (link(h5py.ExternalLink("other.h5", "/x")), rf'"{VICTIM}" is a link \(ExternalLink\)'),
        (link(h5py.SoftLink("/Conv1/kernel")), rf'"{VICTIM}" is a link \(SoftLink\)'),
        (link(np.dtype("float32")), f'"{VICTIM}" is a Datatype; allowed are groups and datasets'),
        (lambda file: put(file, VICTIM, shape=(48,), dtype="float64"), "has the type float64; allowed are float32"),
        (lambda file: put(file, VICTIM, shape=(48,), dtype="S9"), "has the type TypeStringID; allowed are float32"),
        (lambda file: put(file, VICTIM, shape=(49,), dtype="float32"), r"the shape \(49,\); the model's is \(48,\)"),
        (lambda file: put(file, VICTIM, shape=GIB_3, dtype="float32"), "has the shape .* the model's is"),
        (lambda file: put(file, VICTIM, data=np.zeros(48, "f4"), chunks=(48,), compression=9), "pieces or compressed"),
        (lambda file: put(file, "own/array", shape=(48,), dtype="float32"), "datasets; the model has"),
        (lambda file: file.move(VICTIM, "own/array"), '"own/array" is none of the model\'s arrays'),
        (loop, "more than .* groups and datasets"),
        (groups, "more than .* groups and datasets"),
        (attributes, f'"{VICTIM}" has 20 attributes; allowed are 16'),
        (lambda file: file.attrs.create("x", np.zeros(2**13 + 1, "f4")), "an attribute of the file has more than"),
        (lambda file: file.attrs.create("x", file.ref, dtype=h5py.ref_dtype), "is a TypeReferenceID; allowed are"),
        (texts, "is a list of texts of any length"),
        (lambda file: file.create_dataset("pad", data=np.zeros(2**23, "f4")), "the file has 3.*; allowed are"),
    ],
)
def test_D20_a_file_that_is_more_than_the_models_arrays_is_refused(
    good: Path, tmp_path: Path, change: Callable[[h5py.File], object], message: str
) -> None:
    with pytest.raises(AtollError, match=message) as raised:
        start_from(changed(good, tmp_path, change), tmp_path, small_model())
    assert raised.value.reason is Reason.INTEGRITY_MISMATCH
    assert raised.value.message.startswith(f"{KEY} is no weight file that may be read: ")


def test_half_floats_and_missing_arrays_are_read(good: Path, tmp_path: Path) -> None:
    half = np.linspace(0, 1, 48).astype("float16")
    model = small_model()
    start_from(changed(good, tmp_path, lambda file: put(file, VICTIM, data=half)), tmp_path, model)
    np.testing.assert_array_equal(weights_by_path(model)[VICTIM], half.astype("float32"))


@pytest.fixture(scope="module")
def imagenet() -> keras.Model:
    return keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)


def save(model: keras.Model, path: Path) -> None:
    """Writes Keras' own layout, or as h5py 2 wrote it the older one, whose files end in `.h5` alone."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
        return
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
        for group in (file, *file.values()):
            for name in set(group.attrs) & {"layer_names", "weight_names"}:
                group.attrs[name] = np.array(group.attrs[name], "S")


@pytest.mark.parametrize("name", ["no_top.weights.h5", "no_top.h5"])
def test_D20_a_hostile_imagenet_file_is_refused_before_keras_reads_it(
    imagenet: keras.Model, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, paths = tmp_path / name, list[str]()
    save(imagenet, path)
    with h5py.File(path, "r+") as file:
        file.visititems(lambda item, found: paths.append(item) if isinstance(found, h5py.Dataset) else None)
        victim = next(item for item in paths if file[item].shape == (48,))
        put(file, victim, shape=(48,), dtype="float32", external=[(str(tmp_path / "secret"), 0, 192)])
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_: pytest.fail("Keras has read the file"))
    with pytest.raises(AtollError, match=r"no MobileNetV2 weights of width 0\.35: .* lies in another file"):
        load_imagenet(small_model(), path, width=0.35)


def test_imagenet_weights_in_keras_older_layout_are_read(imagenet: keras.Model, tmp_path: Path) -> None:
    for layer in imagenet.layers:
        layer.set_weights([np.full_like(value, 0.5) for value in layer.get_weights()])
    save(imagenet, tmp_path / "no_top.h5")
    assert load_imagenet(small_model(), tmp_path / "no_top.h5", width=0.35) > 100
