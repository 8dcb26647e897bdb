"""The project's weight file: HDF5, one array for each variable path, and what they belong to in one attribute.

Unlike Keras' own format a layer is found by its name, so that a detector with other classes can take all layers that
fit. Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atoll_contract.codec import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError
from atoll_contract.stage import Architecture

if TYPE_CHECKING:
    import keras

ATTRIBUTE = "atoll"


@dataclass(frozen=True)
class About:
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
