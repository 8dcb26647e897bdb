"""A model that somebody names by its file: a bundle, a folder with the files of one, or a bare .tflite file."""

import hashlib
from pathlib import Path

from atoll_contract.bundle import BUNDLE_NAME, LABELS_NAME
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.manifest import Manifest, Role
from atoll_edge.models.bundle import BundleError, bundle_in, served_bundle, served_file, unpack
from atoll_edge.models.served import ServedModel

MANIFEST_NAME = "manifest.json"
_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")


def named_model(path: Path, *, labels: Path | None, folder: Path) -> ServedModel:
    """The model at `path`, which has a file for the CPU; a bundle is unpacked into `folder` (created).

    A folder with a manifest has the thresholds and labels of its release; everything else the seed's threshold.

    Raises:
        BundleError: there is no such model, its labels are not known, or it runs on an Edge TPU only.
    """
    model = _model(path, labels, folder)
    if model.cpu_path is None:
        raise BundleError(
            f"{path} holds only a model that edgetpu_compiler made, which runs on a Coral; "
            "name the unoptimized.tflite of the same training"
        )
    return model


def _model(path: Path, labels: Path | None, folder: Path) -> ServedModel:
    if path.is_dir():
        return _in_folder(path, folder)
    if not path.is_file():
        raise BundleError(f"there is no model {path}")
    if path.suffix == ".tflite":
        beside = path.with_name(LABELS_NAME)
        known = labels or (beside if beside.is_file() else None)
        if known is None:
            raise BundleError(f"there is no {LABELS_NAME} beside {path}; name its label map with --labels")
        return served_file(path, known)
    return served_bundle(_stem(path), unpack(path, folder))


def _in_folder(path: Path, folder: Path) -> ServedModel:
    if (path / MANIFEST_NAME).is_file():
        return _released(path)
    if not (path / LABELS_NAME).is_file() and (path / BUNDLE_NAME).is_file():
        return served_bundle(path.resolve().name, unpack(path / BUNDLE_NAME, folder))
    return served_bundle(path.resolve().name, bundle_in(path))


def _released(path: Path) -> ServedModel:
    """The files of a release beside its manifest."""
    data = (path / MANIFEST_NAME).read_bytes()
    try:
        manifest = from_json(Manifest, data)
    except DecodeError as error:
        raise BundleError(f"{path / MANIFEST_NAME} cannot be read: {error}") from None
    held = manifest.file(Role.MODEL_INT8)
    model = path / Path(held.name).name if held is not None else None
    if model is None or not model.is_file():
        raise BundleError(f"{path} lacks the int8 model that its {MANIFEST_NAME} names")
    return ServedModel(
        name=manifest.release,
        digest=hashlib.sha256(data).hexdigest(),
        sequence=manifest.sequence,
        labels=manifest.labels,
        thresholds=manifest.thresholds,
        cpu_path=model,
    )


def _stem(path: Path) -> str:
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending)
