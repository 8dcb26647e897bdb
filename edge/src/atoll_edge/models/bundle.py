"""Model bundles: `model.tar.gz` as the robot scripts of 2021 take it, an older tarball, or a bare .tflite file."""

from dataclasses import dataclass
from pathlib import Path

from atoll_contract.bundle import EDGETPU_NAME, INT8_NAME, LABELS_NAME, unpack_bundle
from atoll_contract.durable import file_sha256
from atoll_contract.errors import AtollError
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_edge.models.served import DEFAULT_THRESHOLD, ServedModel

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
