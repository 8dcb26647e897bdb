"""The models that are compared: an int8 file with its labels and thresholds, from a release, a bundle or by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll_contract.bundle import BUNDLE_NAME, INT8_NAME, LABELS_NAME, unpack_bundle
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.comparison import Contender
from atoll_contract.errors import SpecError
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.manifest import Manifest, Role
from atoll_stages.export.curves import DEFAULT_THRESHOLD
from atoll_stages.export.interpreter import Exported

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Model:
    """A model that runs; `thresholds` in the order of `labels`."""

    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    exported: Exported


@dataclass(frozen=True)
class _Files:
    model: Path
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]


def opened(contender: Contender, folder: Path) -> Model:
    """The model of a contender; a bundle is unpacked into `folder` (created).

    Raises:
        SpecError: there is no model that runs on the CPU, or its labels are not known.
    """
    files = _files(Path(contender.path), folder)
    try:
        exported = Exported(files.model.read_bytes())
    except (ValueError, RuntimeError) as error:
        raise SpecError(f"{contender.name}: {files.model.name} cannot be run: {error}") from None
    shape, kind = exported.input["shape"], np.dtype(exported.input["dtype"])
    if len(shape) != 4 or shape[1] != shape[2] or kind != np.uint8:
        raise SpecError(f"{contender.name} takes {list(shape)} {kind}, not one uint8 picture with equal sides")
    return Model(contender.name, files.labels, files.thresholds, exported)


def _files(path: Path, folder: Path) -> _Files:
    if path.suffix == ".tflite":
        return _plain(path, path.with_name(LABELS_NAME))
    if (path / MANIFEST_NAME).is_file():
        return _released(path)
    if path.is_dir() and (path / LABELS_NAME).is_file():
        return _plain(path / INT8_NAME, path / LABELS_NAME)
    archive = path / BUNDLE_NAME if path.is_dir() else path
    if not archive.is_file():
        raise SpecError(f"{path} holds no model: neither {INT8_NAME} with {LABELS_NAME} nor {BUNDLE_NAME}")
    held = unpack_bundle(archive, folder)
    for name in (INT8_NAME, LABELS_NAME):
        if name not in held:
            raise SpecError(f"{archive} lacks {name}; a comparison runs on the CPU and needs both it and its labels")
    return _plain(held[INT8_NAME], held[LABELS_NAME])


def _plain(model: Path, labels: Path) -> _Files:
    for path in (model, labels):
        if not path.is_file():
            raise SpecError(f"there is no {path}")
    try:
        names = tuple(label.name for label in parse_label_map(labels.read_text(encoding="utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise SpecError(f"{labels}: {error}") from None
    return _Files(model, names, (DEFAULT_THRESHOLD,) * len(names))


def _released(path: Path) -> _Files:
    try:
        manifest = from_json(Manifest, (path / MANIFEST_NAME).read_bytes())
    except DecodeError as error:
        raise SpecError(f"{path / MANIFEST_NAME}: {error}") from None
    held = manifest.file(Role.MODEL_INT8)
    if held is None:
        raise SpecError(f"{manifest.release} names no int8 model")
    return _Files(path / Path(held.name).name, manifest.labels, manifest.thresholds)
