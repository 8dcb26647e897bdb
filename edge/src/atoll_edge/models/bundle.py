"""Model bundles: `model.tar.gz` as the robot scripts of 2021 take it, an older tarball, or a bare .tflite file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError
from atoll_contract.files import file_sha256
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.release import BUNDLE_NAME, EDGETPU_NAME, INT8_NAME, LABELS_NAME, Manifest, Role, unpack_bundle
from atoll_edge.detector.model import DEFAULT_THRESHOLD, ServedModel

# The custom operator of a compiled model: it stands as a name in the file.
COMPILED_MARK = b"edgetpu-custom-op"


class BundleError(ValueError):
    """The bundle cannot be used; the text says what is missing and what is allowed."""


@dataclass(frozen=True)
class Bundle:
    """Files of a bundle, unpacked into a folder; at least one model."""

    cpu_path: Path | None
    edgetpu_path: Path | None
    labels: tuple[str, ...]


def unpack(archive: Path, folder: Path) -> Bundle:
    """The bundle `archive`, with its files in `folder` (created).

    Raises:
        BundleError: not there, not an archive, unsafe, too large, or without a model or label map.
    """
    if not archive.is_file():
        raise BundleError(f"there is no file {archive}")
    try:
        found = unpack_bundle(archive, folder)
    except AtollError as error:
        raise BundleError(f"{archive.name} cannot be unpacked: {error.message}") from None
    return _bundle_of(found, archive.name)


def bundle_in(folder: Path) -> Bundle:
    """The files of a bundle that lie in `folder`.

    Raises:
        BundleError: there is no model or no label map.
    """
    names = (INT8_NAME, EDGETPU_NAME, LABELS_NAME)
    return _bundle_of({name: folder / name for name in names if (folder / name).is_file()}, str(folder))


def _bundle_of(found: dict[str, Path], where: str) -> Bundle:
    """A `model.tflite` that was never compiled runs on the CPU, whatever its name says."""
    if LABELS_NAME not in found or not {INT8_NAME, EDGETPU_NAME} & set(found):
        raise BundleError(
            f"{where} lacks a model or its labels: it must hold {LABELS_NAME} and {INT8_NAME} or {EDGETPU_NAME}"
        )
    cpu, edgetpu = found.get(INT8_NAME), found.get(EDGETPU_NAME)
    if edgetpu is not None and not is_compiled(edgetpu):
        cpu, edgetpu = cpu or edgetpu, None
    return Bundle(cpu, edgetpu, read_labels(found[LABELS_NAME]))


def is_compiled(path: Path) -> bool:
    """Whether a model file was made by `edgetpu_compiler`."""
    return COMPILED_MARK in path.read_bytes()


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names of a label map, by id.

    Raises:
        BundleError: it cannot be read, or its ids are not 1, 2, 3, ….
    """
    try:
        labels = parse_label_map(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, LabelMapError) as error:
        raise BundleError(f"{path.name}: {error}") from None
    if [label.id for label in labels] != list(range(1, len(labels) + 1)) or not labels:
        raise BundleError(f"{path.name}: ids must be 1, 2, 3, …, not {[label.id for label in labels][:20]}")
    return tuple(label.name for label in labels)


def served_bundle(name: str, bundle: Bundle) -> ServedModel:
    """A bundle without manifest, with the seed's threshold."""
    main = bundle.cpu_path or bundle.edgetpu_path
    assert main is not None
    return ServedModel(
        name=name,
        digest=file_sha256(main),
        sequence=0,
        labels=bundle.labels,
        thresholds=(DEFAULT_THRESHOLD,) * len(bundle.labels),
        cpu_path=bundle.cpu_path,
        edgetpu_path=bundle.edgetpu_path,
    )


def served_file(model: Path, labels: Path | None) -> ServedModel:
    """A bare .tflite file; without a label map the classes are called `0`, `1`, ….

    Raises:
        BundleError: no such file, or the label map cannot be read.
    """
    if not model.is_file():
        raise BundleError(f"there is no model file {model}")
    names = read_labels(labels) if labels is not None else tuple(str(number) for number in range(100))
    compiled = is_compiled(model)
    return ServedModel(
        name=model.stem,
        digest=file_sha256(model),
        sequence=0,
        labels=names,
        thresholds=(DEFAULT_THRESHOLD,) * len(names),
        cpu_path=None if compiled else model,
        edgetpu_path=model if compiled else None,
    )


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
