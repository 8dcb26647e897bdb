"""The project's weight file: HDF5, one array for each variable path, and what they belong to in one attribute.

Unlike Keras' own format a layer is found by its name, so that a detector with other classes can take all layers that
fit. Equal arguments give equal bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from atoll_contract import keys
from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import IntegrityError, ModelError, Reason, SpecError
from atoll_contract.keys import imagenet_names
from atoll_contract.release import Manifest, Role
from atoll_contract.stage import ENV_WEIGHTS_DIR, Architecture, InitFrom, StartWeights
from atoll_contract.store.base import ObjectNotFound, Store

ATTRIBUTE = "atoll"


class About(Document, frozen=True):
    """What detector the weights are of, and the training step they come from."""

    architecture: Architecture
    width: float
    classes: tuple[str, ...]
    step: int = 0


def values_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Every weight of a model by its path, such as `block_1_expand/kernel`."""
    return {v.path: v.numpy() for v in model.variables if v.dtype == "float32"}


def write_weights(path: Path, values: Mapping[str, np.ndarray], about: About) -> None:
    """Write the file whole or, at an error, not at all."""
    import h5py

    scratch = path.with_name(path.name + ".part")
    with h5py.File(scratch, "w", track_order=False) as file:
        file.attrs[ATTRIBUTE] = to_json(about)
        for name in sorted(values):
            file.create_dataset(name, data=values[name], track_times=False)
    scratch.replace(path)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], About]:
    """The arrays of a file and what they belong to.

    Raises:
        IntegrityError: it is no weight file of Atoll.
    """
    import h5py

    values: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            about = from_json(About, file.attrs[ATTRIBUTE])
            file.visititems(visit)
    except (OSError, KeyError, DecodeError) as error:
        raise IntegrityError(f"{path.name} is no weight file of Atoll: {error}") from None
    return values, about


def assign(model: keras.Model, values: Mapping[str, np.ndarray]) -> list[str]:
    """Set every weight that `values` has in the right shape; the paths of those that keep what they had."""
    missed = []
    for variable in model.variables:
        value = values.get(variable.path)
        if value is not None and tuple(variable.shape) == value.shape:
            variable.assign(value)
        elif variable.dtype == "float32":
            missed.append(variable.path)
    return missed


logger = logging.getLogger(__name__)

# Of the last layers; a model with other classes starts them anew.
CLASS_LAYERS = ("class_logits",)


@dataclass(frozen=True)
class Start:
    """What training began with, in words for status and report, and whether the backbone had seen pictures before."""

    words: str
    pretrained: bool


def find_imagenet(width: float, *, store: Store, work: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The ImageNet weights: a file of the folder in ATOLL_WEIGHTS_DIR, else one of the store.

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


def _is_fresh(layer: keras.layers.Layer) -> bool:
    """A normalisation that has never seen a picture: its averages are exactly those it was made with."""
    import keras

    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    return not layer.moving_mean.numpy().any()


def load_imagenet(model: keras.Model, path: Path, *, width: float) -> int:
    """Copy the backbone's layers out of a keras.applications file; the number of layers that were set.

    Raises:
        IntegrityError: the file is not that of this width.
    """
    import keras

    refusal = f"{path.name} holds no MobileNetV2 weights of width {width}"
    try:
        with warnings.catch_warnings():
            # Keras warns of what it skips and goes on; whether something was skipped is checked below.
            warnings.simplefilter("ignore")
            source = keras.applications.MobileNetV2(
                input_shape=(224, 224, 3), alpha=width, include_top=False, weights=str(path)
            )
    except (ValueError, OSError, KeyError) as error:
        raise IntegrityError(f"{refusal}: {error}") from None
    layers = {layer.name: layer for layer in source.layers if layer.weights}
    untouched = [name for name, layer in layers.items() if _is_fresh(layer)]
    if untouched:
        raise IntegrityError(f"{refusal}: {len(untouched)} layers are not in it, the first is {untouched[0]}")
    chosen = [layer for layer in model.layers if layer.name in layers]
    for layer in chosen:
        layer.set_weights(layers[layer.name].get_weights())
    return len(chosen)


def _weights_key(start: StartWeights, store: Store) -> tuple[str, str]:
    """Key and sha256 of the weight file that a checkpoint or a release names.

    Raises:
        ModelError: WeightsNotFound. IntegrityError: the release's manifest is another than the run was given.
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


def _not_found(key: str, store: Store) -> ModelError:
    return ModelError(Reason.WEIGHTS_NOT_FOUND, f"{store.url} has no object {key} to start from")


def _load_file(model: keras.Model, path: Path, about: About) -> str:
    """Take what fits; the layers of the classes only if the classes are the same, in the same order."""
    values, former = read_weights(path)
    if (former.architecture, former.width) != (about.architecture, about.width):
        raise SpecError(
            f"the start weights are of {former.architecture} width {former.width}, the run wants {about.architecture} "
            f"width {about.width}; both must be the same"
        )
    if former.classes != about.classes:
        values = {path: v for path, v in values.items() if not path.startswith(CLASS_LAYERS)}
    missed = assign(model, values)
    if former.classes == about.classes and not missed:
        return "all layers"
    return f"all layers but those of the classes ({len(missed)} arrays are new)"


def load_start(model: keras.Model, start: StartWeights, *, about: About, store: Store, work: Path) -> Start:
    """Set the model's first weights as the run asks. Random weights are those that the model has.

    Raises:
        ModelError: WeightsNotFound. IntegrityError: other bytes than the digest says, or of another kind.
        SpecError: the weights are of another detector.
    """
    if start.type is InitFrom.RANDOM:
        return Start("random weights", pretrained=False)
    if start.type is InitFrom.IMAGENET:
        path = find_imagenet(about.width, store=store, work=work)
        count = load_imagenet(model, path, width=about.width)
        return Start(f"ImageNet weights {path.name} ({count} layers)", pretrained=True)
    key, sha256 = _weights_key(start, store)
    path = work / "start.weights.h5"
    try:
        store.download(key, path, sha256=sha256)
    except ObjectNotFound:
        raise _not_found(key, store) from None
    return Start(f"{start.type} {start.key}: {_load_file(model, path, about)}", pretrained=True)
