"""The inputs of a comparison: int8 models with labels and thresholds, and the labelled images that they run on.

A model comes from a release, a bundle or a file; images from the evaluation records of a run or a labelled archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import DatasetError, IntegrityError, Reason, SpecError
from atoll_contract.images import Resize
from atoll_contract.labelmap import LabelMapError, read_labels
from atoll_contract.release import BUNDLE_NAME, INT8_NAME, LABEL_FILES, LABELS_NAME, Manifest, Role, unpack_bundle
from atoll_contract.tflite import read_model
from atoll_contract.tool_reports import Contender, ImageSource
from atoll_stages.convert.example_store import ExampleStore, StoredExample
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.dataset import Example, Records

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class LabelledModel:
    """A model that is ready to run; `thresholds` in the order of `labels`. `resize` is how it expects images."""

    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    exported: ExportedModel
    resize: Resize = Resize.SQUASH


@dataclass(frozen=True)
class _ModelFiles:
    model: Path
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]


def load_model(contender: Contender, folder: Path) -> LabelledModel:
    """Loads a contender's model; a bundle is unpacked into `folder`, which is created.

    Raises:
        SpecError: there is no model that runs on the CPU, or its labels are not known.
    """
    files = _find_files(Path(contender.path), folder)
    try:
        data = files.model.read_bytes()
        exported, resize = ExportedModel(data), read_model(data).resize
    except (ValueError, RuntimeError) as error:
        raise SpecError(f"{contender.name}: {files.model.name} cannot be run: {error}") from None
    shape, dtype = exported.input["shape"], np.dtype(exported.input["dtype"])
    if len(shape) != 4 or shape[1] != shape[2] or dtype != np.uint8:
        raise SpecError(f"{contender.name} takes {list(shape)} {dtype}, not one uint8 picture with equal sides")
    return LabelledModel(contender.name, files.labels, files.thresholds, exported, resize)


def _find_files(path: Path, folder: Path) -> _ModelFiles:
    if path.suffix == ".tflite":
        return _plain_files(path, _labels_in(path.parent) or path.with_name(LABELS_NAME))
    if (path / MANIFEST_NAME).is_file():
        return _release_files(path)
    if path.is_dir() and (labels := _labels_in(path)) is not None:
        return _plain_files(path / INT8_NAME, labels)
    archive = path / BUNDLE_NAME if path.is_dir() else path
    if not archive.is_file():
        raise SpecError(f"{path} holds no model: neither {INT8_NAME} with {LABELS_NAME} nor {BUNDLE_NAME}")
    unpacked = unpack_bundle(archive, folder)
    names = next((name for name in LABEL_FILES if name in unpacked), LABELS_NAME)
    for name in (INT8_NAME, names):
        if name not in unpacked:
            raise SpecError(f"{archive} lacks {name}; a comparison runs on the CPU and needs both it and its labels")
    return _plain_files(unpacked[INT8_NAME], unpacked[names])


def _labels_in(folder: Path) -> Path | None:
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def _plain_files(model: Path, labels: Path) -> _ModelFiles:
    for path in (model, labels):
        if not path.is_file():
            raise SpecError(f"there is no {path}")
    try:
        names = read_labels(labels)
    except LabelMapError as error:
        raise SpecError(f"{labels}: {error}") from None
    return _ModelFiles(model, names, (DEFAULT_THRESHOLD,) * len(names))


def _release_files(path: Path) -> _ModelFiles:
    try:
        manifest = from_json(Manifest, (path / MANIFEST_NAME).read_bytes())
    except DecodeError as error:
        raise SpecError(f"{path / MANIFEST_NAME}: {error}") from None
    int8 = manifest.file(Role.MODEL_INT8)
    if int8 is None:
        raise SpecError(f"{manifest.release} names no int8 model")
    return _ModelFiles(path / Path(int8.name).name, manifest.labels, manifest.thresholds)


@dataclass(frozen=True)
class ImageSet:
    """Labelled images. `left_out` is the number of others, which one of the models was trained on."""

    name: str
    classes: tuple[str, ...]
    examples: Sequence[Example]
    left_out: int = 0

    @property
    def boxes(self) -> int:
        return sum(len(example.labels) for example in self.examples)


@contextmanager
def open_image_set(source: ImageSource, work: Path) -> Iterator[ImageSet]:
    """Opens the images of a source, which are read from the disk when they are needed.

    Raises:
        DatasetError: an archive that the convert stage would refuse.
        IntegrityError: the records or the label map cannot be read.
    """
    if source.archive is not None:
        with _open_archive(source.name, Path(source.archive), work) as images:
            yield images
        return
    labels = Path(source.labels or "")
    with Records([Path(shard) for shard in source.shards]) as records:
        try:
            classes = read_labels(labels)
        except LabelMapError as error:
            raise IntegrityError(f"{labels.name}: {error}") from None
        yield ImageSet(source.name, classes, records)


@contextmanager
def _open_archive(name: str, path: Path, work: Path) -> Iterator[ImageSet]:
    """Yields all images of an archive, of every split."""
    if not path.exists():
        raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no archive {path}")
    with read_dataset([Source(path.name, path)], ConvertSpec(sources=()), work) as conversion:
        classes = summarize(conversion).classes
        rows = list(conversion.store.examples())
        read = _ArchiveReader(conversion.store, rows, classes)
        yield ImageSet(name, classes, _LazyExamples(len(rows), read))


def training_digests(*contenders: Contender) -> frozenset[str]:
    """Returns the sha256 of every image that one of the models is known to be trained on."""
    digests: set[str] = set()
    for contender in contenders:
        with Records([Path(shard) for shard in contender.trained or ()]) as records:
            digests.update(_digest(example) for example in records)
    return frozenset(digests)


def without_training_images(images: ImageSet, digests: frozenset[str]) -> ImageSet:
    """Returns the set without the images that a model was trained on: these would flatter it.

    Raises:
        DatasetError: NoUsableExamples, none is left.
    """
    if not digests:
        return images
    examples = images.examples
    kept = [index for index, example in enumerate(examples) if _digest(example) not in digests]
    left_out = len(examples) - len(kept)
    if not kept:
        raise DatasetError(
            Reason.NO_USABLE_EXAMPLES,
            f"{images.name}: all {left_out} pictures were in the training part of one of the models, so nothing can "
            "be said; give other labelled pictures with --data",
        )
    remaining = _LazyExamples(len(kept), lambda index: examples[kept[index]])
    return ImageSet(images.name, images.classes, remaining, left_out)


def _digest(example: Example) -> str:
    return hashlib.sha256(example.encoded).hexdigest()


class _LazyExamples(Sequence[Example]):
    """Examples that `read` makes when they are needed, so that memory does not grow."""

    def __init__(self, count: int, read: Callable[[int], Example]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._read(index)


class _ArchiveReader:
    """Reads an archive's images from the store that convert has filled."""

    def __init__(self, store: ExampleStore, rows: Sequence[StoredExample], classes: Sequence[str]) -> None:
        self._store = store
        self._rows = rows
        self._labels = {name: number for number, name in enumerate(classes)}

    def __call__(self, index: int) -> Example:
        row = self._rows[index]
        boxes = [(item.box.ymin, item.box.xmin, item.box.ymax, item.box.xmax) for item in row.boxes]
        return Example(
            name=row.name,
            encoded=self._store.jpeg(row),
            width=row.width,
            height=row.height,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array([self._labels[item.label] for item in row.boxes], np.int32),
        )
