"""Weight files and where training starts."""

import hashlib
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.errors import AtollError, IntegrityError, Reason, SpecError
from atoll_contract.keys import imagenet_names
from atoll_contract.release import EdgeTpu, Manifest, ManifestFile, ModelInput, Role
from atoll_contract.store.directory import DirStore
from atoll_contract.train_spec import Architecture, InitFrom, StartWeights
from atoll_stages.train.detector import build_detector
from atoll_stages.train.initial_weights import (
    ExpectedWeights,
    ModelInfo,
    find_imagenet,
    load_initial_weights,
    read_weights,
    weights_by_path,
    write_weights,
)

INFO = ModelInfo(Architecture.FPNLITE_192, 0.35, ("a", "b"), step=12)


def small_model(classes: int = 2) -> keras.Model:
    return build_detector(architecture=Architecture.FPNLITE_192, width=0.35, classes=classes, side=64)


def stored(store: DirStore, folder: Path, model: keras.Model, info: ModelInfo) -> StartWeights:
    write_weights(folder / "own.h5", weights_by_path(model), info)
    put = store.upload("weights/own.h5", folder / "own.h5")
    return StartWeights(InitFrom.CHECKPOINT, put.key, put.sha256)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    values = {"b/kernel": np.ones((2, 3), np.float32), "a/bias": np.zeros(4, np.float32)}
    write_weights(tmp_path / "1.h5", values, INFO)
    write_weights(tmp_path / "2.h5", dict(reversed(values.items())), INFO)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
    read, info = read_weights(tmp_path / "1.h5", ExpectedWeights(INFO, {p: v.shape for p, v in values.items()}))
    assert info == INFO
    assert {name: v.tolist() for name, v in read.items()} == {name: v.tolist() for name, v in values.items()}


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match=r"x\.h5 is no weight file"):
        read_weights(tmp_path / "x.h5", ExpectedWeights(INFO, {}))


def test_D20_a_pickle_as_start_weights_is_refused_unread(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    payload = pickle.dumps(_Payload(str(trace)))
    store = DirStore(tmp_path / "store")
    info = store.put("weights/own.h5", payload)
    start = StartWeights(InitFrom.CHECKPOINT, info.key, hashlib.sha256(payload).hexdigest())
    with pytest.raises(IntegrityError, match="is no weight file"):
        load_initial_weights(small_model(), start, info=INFO, store=store, work=tmp_path)
    assert not trace.exists()


class _Payload:
    """What a pickle runs when it is loaded: here it leaves a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self._path, "w")


def test_a_checkpoint_of_the_same_classes_sets_everything(tmp_path: Path) -> None:
    store, source, model = DirStore(tmp_path / "store"), small_model(), small_model()
    description = load_initial_weights(
        model, stored(store, tmp_path, source, INFO), info=INFO, store=store, work=tmp_path
    )
    assert "all layers" in description
    for name, value in weights_by_path(source).items():
        np.testing.assert_array_equal(weights_by_path(model)[name], value)


def released(store: DirStore, folder: Path, model: keras.Model, *, role: Role = Role.CHECKPOINT) -> StartWeights:
    """A release whose float weights are the model's."""
    write_weights(folder / "release.h5", weights_by_path(model), INFO)
    info = store.upload(keys.blob("a" * 64), folder / "release.h5")
    manifest = Manifest(
        namespace="local",
        model="note",
        version=1,
        sequence=1,
        created_at="2027-01-09T19:12:00Z",
        run=keys.RunRef("local", "note", "7b1e"),
        input=ModelInput(192, 192),
        labels=INFO.classes,
        thresholds=(0.5, 0.5),
        files=(ManifestFile(role, "model.weights.h5", info.key, info.sha256 or "", info.size),),
        edgetpu=EdgeTpu(compiled=False),
    )
    put = store.put(keys.manifest("local", "note", 1), to_json(manifest))
    return StartWeights(InitFrom.RELEASE, put.key, put.sha256)


def test_a_release_sets_everything_a_run_of_the_same_classes_needs(tmp_path: Path) -> None:
    store, source, model = DirStore(tmp_path / "store"), small_model(), small_model()
    description = load_initial_weights(model, released(store, tmp_path, source), info=INFO, store=store, work=tmp_path)
    assert description == "release models/local/note/v1/manifest.json: all layers"
    for name, value in weights_by_path(source).items():
        np.testing.assert_array_equal(weights_by_path(model)[name], value)


def test_a_release_without_float_weights_is_weights_not_found(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    start = released(store, tmp_path, small_model(), role=Role.REPORT)
    with pytest.raises(AtollError, match=r"note-v1 .* holds no float weights") as raised:
        load_initial_weights(small_model(), start, info=INFO, store=store, work=tmp_path)
    assert raised.value.reason is Reason.WEIGHTS_NOT_FOUND


def test_another_manifest_than_the_run_was_given_is_refused(tmp_path: Path) -> None:
    """Whoever can write the bucket must not choose what a run starts from."""
    store = DirStore(tmp_path / "store")
    start = released(store, tmp_path, small_model())
    assert start.key is not None
    store.put(start.key, store.get(start.key).replace(b"note", b"evil"))
    with pytest.raises(IntegrityError, match="the release says"):
        load_initial_weights(small_model(), start, info=INFO, store=store, work=tmp_path)


def test_other_classes_start_anew_and_the_rest_is_taken(tmp_path: Path) -> None:
    store, source, model = DirStore(tmp_path / "store"), small_model(), small_model(classes=3)
    before, wanted = weights_by_path(model), ModelInfo(INFO.architecture, INFO.width, ("x", "y", "z"))
    description = load_initial_weights(
        model, stored(store, tmp_path, source, INFO), info=wanted, store=store, work=tmp_path
    )
    assert "but those of the classes" in description
    after = weights_by_path(model)
    np.testing.assert_array_equal(after["class_logits/kernel"], before["class_logits/kernel"])
    np.testing.assert_array_equal(after["box_codes/kernel"], weights_by_path(source)["box_codes/kernel"])


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    start = stored(store, tmp_path, small_model(), INFO)
    with pytest.raises(SpecError, match=r"width 0\.35, the run wants .* width 1\.0"):
        load_initial_weights(
            small_model(), start, info=ModelInfo(INFO.architecture, 1.0, INFO.classes), store=store, work=tmp_path
        )


def test_other_bytes_than_the_digest_says_are_refused(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    start = stored(store, tmp_path, small_model(), INFO)
    forged = StartWeights(start.type, start.key, "0" * 64)
    with pytest.raises(AtollError) as raised:
        load_initial_weights(small_model(), forged, info=INFO, store=store, work=tmp_path)
    assert raised.value.reason is Reason.INTEGRITY_MISMATCH


def test_missing_imagenet_weights_end_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match=r"mobilenet_v2_0\.5_224_no_top.*atoll run --weights.*random") as raised:
        find_imagenet(0.5, store=DirStore(tmp_path / "store"), work=tmp_path, environ={})
    assert raised.value.reason is Reason.WEIGHTS_NOT_FOUND


def test_a_missing_checkpoint_is_weights_not_found(tmp_path: Path) -> None:
    start = StartWeights(InitFrom.CHECKPOINT, "weights/none.h5", "0" * 64)
    with pytest.raises(AtollError, match=r"no object weights/none\.h5") as raised:
        load_initial_weights(small_model(), start, info=INFO, store=DirStore(tmp_path / "store"), work=tmp_path)
    assert raised.value.reason is Reason.WEIGHTS_NOT_FOUND


def test_imagenet_weights_are_found_in_the_folder_then_in_the_store(tmp_path: Path) -> None:
    store, folder, name = DirStore(tmp_path / "store"), tmp_path / "baked", imagenet_names(0.5)[0]
    store.put(keys.weights(name), b"from the store")
    assert find_imagenet(0.5, store=store, work=tmp_path, environ={}).read_bytes() == b"from the store"
    folder.mkdir()
    (folder / name).write_bytes(b"baked")
    found = find_imagenet(0.5, store=store, work=tmp_path, environ={"ATOLL_WEIGHTS_DIR": str(folder)})
    assert found == folder / name
