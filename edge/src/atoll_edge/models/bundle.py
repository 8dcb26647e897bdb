"""Reads models from files: a bundle (`model.tar.gz` as robot scripts of 2021 take it), a folder, or a .tflite file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from atoll_contract import labelmap
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError
from atoll_contract.files import file_sha256
from atoll_contract.images import Resize
from atoll_contract.release import BUNDLE_NAME, EDGETPU_NAME, INT8_NAME, LABEL_FILES, Manifest, Role, unpack_bundle
from atoll_contract.tflite import PreprocessingError, TfliteError, read_model
from atoll_edge.detector.model import DEFAULT_THRESHOLD, LoadedModelSpec

MANIFEST_NAME = "manifest.json"
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
# The name of the custom operator, which the file of a compiled model contains.
COMPILED_MARK = b"edgetpu-custom-op"


class BundleError(ValueError):
    """The bundle cannot be used; the text says what is missing and what is allowed."""


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle, unpacked into a folder. At least one of the models is there."""

    cpu_path: Path | None
    edgetpu_path: Path | None
    labels: tuple[str, ...]


def unpack(archive: Path, folder: Path) -> Bundle:
    """Unpacks the bundle `archive` into `folder`, which is created.

    Raises:
        BundleError: it is missing, not an archive, unsafe, too large, or lacks a model or the label map.
    """
    if not archive.is_file():
        raise BundleError(f"there is no file {archive}")
    try:
        found = unpack_bundle(archive, folder)
    except AtollError as error:
        raise BundleError(f"{archive.name} cannot be unpacked: {error.message}") from None
    return _bundle_of(found, archive.name)


def bundle_in(folder: Path) -> Bundle:
    """Reads a bundle from the files in `folder`.

    Raises:
        BundleError: the model or the label map is missing.
    """
    names = (INT8_NAME, EDGETPU_NAME, *LABEL_FILES)
    return _bundle_of({name: folder / name for name in names if (folder / name).is_file()}, str(folder))


def _bundle_of(found: dict[str, Path], where: str) -> Bundle:
    """Makes a bundle of files by name. A `model.tflite` that was never compiled counts as the model for the CPU."""
    labels = next((found[name] for name in LABEL_FILES if name in found), None)
    if labels is None or not {INT8_NAME, EDGETPU_NAME} & set(found):
        raise BundleError(
            f"{where} lacks a model or its labels: it must hold {' or '.join(LABEL_FILES)}, and {INT8_NAME} or "
            f"{EDGETPU_NAME}"
        )
    cpu, edgetpu = found.get(INT8_NAME), found.get(EDGETPU_NAME)
    if edgetpu is not None and not is_compiled(edgetpu):
        cpu, edgetpu = cpu or edgetpu, None
    return Bundle(cpu, edgetpu, read_labels(labels))


def is_compiled(path: Path) -> bool:
    """Returns whether `edgetpu_compiler` compiled the model file."""
    return COMPILED_MARK in path.read_bytes()


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the class names of a label map or a list of names, in the order of their ids.

    Raises:
        BundleError: it cannot be read, or is neither of them.
    """
    try:
        return labelmap.read_labels(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from None
    except labelmap.LabelMapError as error:
        raise BundleError(f"{path.name}: {error}") from None


def bundle_spec(name: str, bundle: Bundle) -> LoadedModelSpec:
    """Describes a bundle, which has no manifest, with the default threshold."""
    main = bundle.cpu_path or bundle.edgetpu_path
    assert main is not None
    thresholds = (DEFAULT_THRESHOLD,) * len(bundle.labels)
    return LoadedModelSpec(
        name,
        file_sha256(main),
        0,
        bundle.labels,
        thresholds,
        bundle.cpu_path,
        bundle.edgetpu_path,
        file_resize(main),
    )


def file_resize(model: Path) -> Resize:
    """Returns how images become the input, as the model file says itself. A file that cannot be read counts as one that
    squashes: who loads it refuses it.

    Raises:
        BundleError: it is a model of a later version.
    """
    try:
        return read_model(model.read_bytes()).resize
    except PreprocessingError as error:
        raise BundleError(f"{model.name}: {error}; update atoll-edge") from None
    except TfliteError:
        return Resize.SQUASH


def file_spec(model: Path, labels: Path | None) -> LoadedModelSpec:
    """Describes a .tflite file; without a label map its classes are called `0`, `1`, ….

    Raises:
        BundleError: there is no such file, or the label map cannot be read.
    """
    if not model.is_file():
        raise BundleError(f"there is no model file {model}")
    names = read_labels(labels) if labels is not None else tuple(str(number) for number in range(100))
    compiled = is_compiled(model)
    return bundle_spec(model.stem, Bundle(None if compiled else model, model if compiled else None, names))


def named_model(path: Path, *, labels: Path | None, folder: Path) -> LoadedModelSpec:
    """Finds the model at `path`, which must have a file for the CPU; a bundle is unpacked into `folder` (created).

    A folder with a manifest has the thresholds and labels of its release; other models have the default threshold.

    Raises:
        BundleError: there is no such model, it has no label map, or it runs on an Edge TPU only.
    """
    model = _model(path, labels, folder)
    if model.cpu_path is None:
        raise BundleError(
            f"{path} holds only a model that edgetpu_compiler made, which runs on a Coral; "
            "name the unoptimized.tflite of the same training"
        )
    return model


def _model(path: Path, labels: Path | None, folder: Path) -> LoadedModelSpec:
    if path.is_dir():
        return _folder_spec(path, folder)
    if not path.is_file():
        raise BundleError(f"there is no model {path}")
    if path.suffix == ".tflite":
        beside = (path.with_name(name) for name in LABEL_FILES)
        known = labels or next((file for file in beside if file.is_file()), None)
        if known is None:
            raise BundleError(f"there is no {' or '.join(LABEL_FILES)} beside {path}; name its label map with --labels")
        return file_spec(path, known)
    return bundle_spec(_stem(path), unpack(path, folder))


def _folder_spec(path: Path, folder: Path) -> LoadedModelSpec:
    if (path / MANIFEST_NAME).is_file():
        return _release_spec(path)
    if not any((path / name).is_file() for name in LABEL_FILES) and (path / BUNDLE_NAME).is_file():
        return bundle_spec(path.resolve().name, unpack(path / BUNDLE_NAME, folder))
    return bundle_spec(path.resolve().name, bundle_in(path))


def _release_spec(path: Path) -> LoadedModelSpec:
    """Describes the files of a release in the folder of its manifest."""
    data = (path / MANIFEST_NAME).read_bytes()
    try:
        manifest = from_json(Manifest, data)
    except DecodeError as error:
        raise BundleError(f"{path / MANIFEST_NAME} cannot be read: {error}") from None
    item = manifest.file(Role.MODEL_INT8)
    model = path / Path(item.name).name if item is not None else None
    if model is None or not model.is_file():
        raise BundleError(f"{path} lacks the int8 model that its {MANIFEST_NAME} names")
    return LoadedModelSpec(
        name=manifest.release,
        digest=hashlib.sha256(data).hexdigest(),
        sequence=manifest.sequence,
        labels=manifest.labels,
        thresholds=manifest.thresholds,
        cpu_path=model,
        resize=manifest.resize,
    )


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix)
