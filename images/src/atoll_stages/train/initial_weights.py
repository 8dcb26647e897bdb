"""Weights of detectors: Atoll's weight file, and the initial weights of a training.

The file is HDF5: one array for each variable path, and what they belong to in one attribute. Unlike in Keras' own
format a layer is found by its name, so that a detector with other classes can take all layers that fit. Equal
arguments give equal bytes. Training starts from ImageNet weights, a former release, a checkpoint or random weights.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from atoll_contract import keys
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import IntegrityError, ModelError, Reason, SpecError
from atoll_contract.keys import imagenet_names
from atoll_contract.release import Manifest, Role
from atoll_contract.stage import ENV_WEIGHTS_DIR
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.tool_reports import WeightsRecord
from atoll_contract.train_spec import Architecture, InitFrom, StartWeights
from atoll_stages.train import open_images
from atoll_stages.train.detector import build_detector
from atoll_stages.train.hdf5_check import (
    RefusedFile,
    Shape,
    check_nameless_shapes,
    check_shapes,
    check_size,
    find_arrays,
)

ATTRIBUTE = "atoll"
# Prefixes of the layers that depend on the classes: a model with other classes keeps its new ones.
CLASS_LAYERS = ("class_logits",)


class ModelInfo(Document, frozen=True):
    """The detector that some weights belong to, and the training step they come from."""

    architecture: Architecture
    width: float
    classes: tuple[str, ...]
    step: int = 0


@dataclass(frozen=True)
class ExpectedWeights:
    """The detector that a weight file is read for, and the shapes of its arrays by path."""

    info: ModelInfo
    shapes: Mapping[str, Shape]

    def with_classes(self, count: int) -> dict[str, Shape]:
        """Returns the shapes that the detector has with `count` classes."""
        own = max(1, len(self.info.classes))
        return {
            path: (*shape[:-1], shape[-1] // own * count) if path.startswith(CLASS_LAYERS) else shape
            for path, shape in self.shapes.items()
        }


def expected_weights(model: keras.Model, info: ModelInfo) -> ExpectedWeights:
    """Returns what a weight file of the model, which `info` describes, may hold."""
    return ExpectedWeights(info, {v.path: tuple(v.shape) for v in model.variables if v.dtype == "float32"})


def weights_by_path(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns every weight of a model by its path, such as `block_1_expand/kernel`."""
    return {v.path: v.numpy() for v in model.variables if v.dtype == "float32"}


def assign_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Sets every weight of the model that is given in the right shape; returns the paths of the others."""
    missing = []
    for variable in model.variables:
        value = weights.get(variable.path)
        if value is not None and tuple(variable.shape) == value.shape:
            variable.assign(value)
        elif variable.dtype == "float32":
            missing.append(variable.path)
    return missing


def write_weights(path: Path, weights: Mapping[str, np.ndarray], info: ModelInfo) -> None:
    """Writes the file whole or, if an error occurs, not at all."""
    partial = path.with_name(path.name + ".part")
    with h5py.File(partial, "w", track_order=False) as file:
        file.attrs[ATTRIBUTE] = to_json(info)
        for name in sorted(weights):
            file.create_dataset(name, data=weights[name], track_times=False)
    partial.replace(path)


def read_weights(
    path: Path, expected: ExpectedWeights, *, key: str | None = None
) -> tuple[dict[str, np.ndarray], ModelInfo]:
    """Reads the arrays of a file that fit the detector, and what they belong to; `key` is what messages call the file.

    The arrays of the class layers are left out where the classes are others.

    Raises:
        IntegrityError: it is not a weight file of Atoll, or one with anything else than the detector's arrays.
        SpecError: the weights are of another detector.
    """
    name = key or path.name
    try:
        check_size(path, expected.with_classes(DatasetLimits().classes).values())
        with h5py.File(path, "r") as file:
            arrays = find_arrays(file, max_arrays=len(expected.shapes))
            info = _read_info(file)
            _check_detector(info, expected.info, name)
            check_shapes(arrays, expected.with_classes(len(info.classes)))
            left_out = () if info.classes == expected.info.classes else CLASS_LAYERS
            return {item: arrays[item][()] for item in arrays if not item.startswith(left_out)}, info
    except RefusedFile as error:
        raise IntegrityError(
            f"{name} is no weight file that may be read: {error}; start from a file that Atoll wrote"
        ) from None
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise IntegrityError(f"{name} is no weight file of Atoll: {error}") from None


def _read_info(file: h5py.File) -> ModelInfo:
    text = file.attrs[ATTRIBUTE]
    if not isinstance(text, str | bytes):
        raise RefusedFile(f"the attribute {ATTRIBUTE} is no text")
    return from_json(ModelInfo, text)


def _check_detector(found: ModelInfo, wanted: ModelInfo, name: str) -> None:
    if (found.architecture, found.width) != (wanted.architecture, wanted.width):
        raise SpecError(
            f"{name}: the weights are of {found.architecture} width {found.width}, the run wants "
            f"{wanted.architecture} width {wanted.width}; both must be the same"
        )


def load_detector(path: Path, wanted: ModelInfo, *, key: str | None = None) -> tuple[keras.Model, ModelInfo]:
    """Builds the detector of a weight file, with fixed input size.

    Raises:
        IntegrityError: the file is of another detector or other classes, lacks weights, or may not be read.
    """
    model = build_detector(
        architecture=wanted.architecture,
        width=wanted.width,
        classes=len(wanted.classes),
        side=wanted.architecture.side,
    )
    try:
        weights, info = read_weights(path, expected_weights(model, wanted), key=key)
    except SpecError as error:
        raise IntegrityError(error.message) from None
    missing = assign_weights(model, weights)
    if missing:
        raise IntegrityError(f"{key or path.name} lacks {len(missing)} weights, the first is {missing[0]}")
    return model, info


def load_initial_weights(model: keras.Model, start: StartWeights, *, info: ModelInfo, store: Store, work: Path) -> str:
    """Sets the initial weights that the run requests; for random ones the model keeps those that it has.

    Returns:
        A description of the weights, for status and report.

    Raises:
        ModelError: WeightsNotFound. IntegrityError: the bytes have another digest, or are not a weight file.
        SpecError: the weights are of another detector.
    """
    if start.type is InitFrom.RANDOM:
        return "random weights"
    if start.type is InitFrom.IMAGENET:
        path = find_imagenet(info.width, store=store, work=work)
        count = load_imagenet(model, path, width=info.width)
        return f"{_origin(path, store, work)} weights {path.name} ({count} layers)"
    key, sha256 = _weights_key(start, store)
    path = work / "start.weights.h5"
    try:
        store.download(key, path, sha256=sha256)
    except ObjectNotFound:
        raise _not_found(key, store) from None
    return f"{start.type} {start.key}: {_load_matching(model, path, info, key)}"


def find_imagenet(width: float, *, store: Store, work: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the file of the ImageNet weights: one of the folder in ATOLL_WEIGHTS_DIR, else one of the store.

    Raises:
        ModelError: WeightsNotFound, with what to do.
    """
    folder = environ.get(ENV_WEIGHTS_DIR)
    for name in imagenet_names(width):
        if folder and (Path(folder) / name).is_file():
            return Path(folder) / name
        if store.head(keys.weights(name)) is not None:
            store.download(keys.weights(name), work / name)
            return work / name
    name = imagenet_names(width)[0]
    raise ModelError(
        Reason.WEIGHTS_NOT_FOUND,
        f"there are no ImageNet weights for width {width}: neither {name} in {ENV_WEIGHTS_DIR} ({folder or 'not set'}) "
        f"nor {keys.weights(name)} in {store.url}; put them there with `atoll run --weights {name}`, use a train "
        f"image that holds them, or start from initFrom.type random",
    )


def _origin(path: Path, store: Store, work: Path) -> str:
    """Returns what the backbone was trained on, as far as the record beside it says."""
    if path.parent == work:
        try:
            source = from_json(WeightsRecord, store.get(keys.weights_record(path.name))).source
        except (ObjectNotFound, DecodeError):
            source = ""
        if source.endswith(open_images.NAME):
            return "Open Images"
    return "ImageNet"


def load_imagenet(model: keras.Model, path: Path, *, width: float) -> int:
    """Sets the backbone's layers from a keras.applications file; returns the number of layers that were set.

    Raises:
        IntegrityError: the file is not that of this width.
    """
    refused = f"{path.name} holds no MobileNetV2 weights of width {width}"
    source = keras.applications.MobileNetV2(input_shape=(224, 224, 3), alpha=width, include_top=False, weights=None)
    try:
        _check_imagenet(path, [tuple(v.shape) for v in source.variables])
        with warnings.catch_warnings():
            # Keras only warns of what it skips; whether something was skipped is checked below.
            warnings.simplefilter("ignore")
            source.load_weights(path)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise IntegrityError(f"{refused}: {error}") from None
    layers = {layer.name: layer for layer in source.layers if layer.weights}
    missing = [name for name, layer in layers.items() if _is_untouched(layer)]
    if missing:
        raise IntegrityError(f"{refused}: {len(missing)} layers are not in it, the first is {missing[0]}")
    chosen = [layer for layer in model.layers if layer.name in layers]
    for layer in chosen:
        layer.set_weights(layers[layer.name].get_weights())
    return len(chosen)


def _check_imagenet(path: Path, shapes: list[Shape]) -> None:
    """Raises RefusedFile where Keras must not read the file."""
    check_size(path, shapes)
    with h5py.File(path, "r") as file:
        check_nameless_shapes(find_arrays(file, max_arrays=len(shapes)), shapes)


def _is_untouched(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a normalisation whose averages still have their initial values."""
    return isinstance(layer, keras.layers.BatchNormalization) and not layer.moving_mean.numpy().any()


def _weights_key(start: StartWeights, store: Store) -> tuple[str, str]:
    """Returns key and sha256 of the weight file that a checkpoint or a release names.

    Raises:
        ModelError: WeightsNotFound. IntegrityError: the release's manifest is not the one that the run was given.
    """
    if not start.key or not start.sha256:
        raise SpecError(f"initFrom.type {start.type} needs a key and a digest")
    if start.type is InitFrom.CHECKPOINT:
        return start.key, start.sha256
    try:
        data = store.get(start.key)
    except ObjectNotFound:
        raise _not_found(start.key, store) from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != start.sha256:
        raise IntegrityError(f"{store.url}: {start.key} has sha256 {digest}, the release says {start.sha256}")
    try:
        manifest = from_json(Manifest, data)
    except DecodeError as error:
        raise IntegrityError(f"{start.key} is no manifest: {error}") from None
    file = manifest.file(Role.CHECKPOINT)
    if file is None:
        raise ModelError(
            Reason.WEIGHTS_NOT_FOUND,
            f"release {manifest.release} ({start.key}) holds no float weights (role {Role.CHECKPOINT}) to start from",
        )
    return file.key, file.sha256


def _load_matching(model: keras.Model, path: Path, info: ModelInfo, key: str) -> str:
    """Sets the weights that fit; those of the class layers only if the classes are the same, in the same order."""
    weights, source = read_weights(path, expected_weights(model, info), key=key)
    missing = assign_weights(model, weights)
    if source.classes == info.classes and not missing:
        return "all layers"
    return f"all layers but those of the classes ({len(missing)} arrays are new)"


def _not_found(key: str, store: Store) -> ModelError:
    return ModelError(Reason.WEIGHTS_NOT_FOUND, f"{store.url} has no object {key} to start from")
