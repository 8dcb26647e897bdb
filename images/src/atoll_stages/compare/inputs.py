"""The models that are compared: an int8 file with its labels and thresholds, from a release, a bundle or by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import DatasetError, IntegrityError, Reason, SpecError
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.release import BUNDLE_NAME, INT8_NAME, LABELS_NAME, Manifest, Role, unpack_bundle
from atoll_contract.stage import ConvertSpec
from atoll_contract.tool_reports import Contender, PictureSource
from atoll_stages.convert.example_store import ExampleStore, StoredExample
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from atoll_stages.export.evaluation import DEFAULT_THRESHOLD
from atoll_stages.export.inference import Exported
from atoll_stages.train.dataset import Example, Records

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


@dataclass(frozen=True)
class PictureSet:
    """Labelled pictures; `left_out` of them were among those that one of the models was trained on."""

    name: str
    classes: tuple[str, ...]
    examples: Sequence[Example]
    left_out: int = 0

    @property
    def boxes(self) -> int:
        return sum(len(example.labels) for example in self.examples)


@contextmanager
def picture_set(source: PictureSource, work: Path) -> Iterator[PictureSet]:
    """The pictures of a source, read from the disk as they are asked for.

    Raises:
        DatasetError: an archive that the convert stage would refuse.
        IntegrityError: records that are none.
    """
    if source.archive is not None:
        with _archive(source.name, Path(source.archive), work) as pictures:
            yield pictures
        return
    with Records([Path(shard) for shard in source.shards]) as records:
        yield PictureSet(source.name, _classes(Path(source.labels or "")), records)


def trained_on(*contenders: Contender) -> frozenset[str]:
    """The sha256 of every picture that one of the models is known to be trained on."""
    seen: set[str] = set()
    for contender in contenders:
        with Records([Path(shard) for shard in contender.trained or ()]) as records:
            seen.update(digest(example) for example in records)
    return frozenset(seen)


def unseen(pictures: PictureSet, seen: frozenset[str]) -> PictureSet:
    """The set without the pictures that were seen in training: on those a model is better than it is.

    Raises:
        DatasetError: NoUsableExamples, none is left.
    """
    if not seen:
        return pictures
    kept = [index for index, example in enumerate(pictures.examples) if digest(example) not in seen]
    left_out = len(pictures.examples) - len(kept)
    if not kept:
        raise DatasetError(
            Reason.NO_USABLE_EXAMPLES,
            f"{pictures.name}: all {left_out} pictures were in the training part of one of the models, so nothing can "
            "be said; give other labelled pictures with --data",
        )
    return PictureSet(pictures.name, pictures.classes, _Chosen(pictures.examples, kept), left_out)


def digest(example: Example) -> str:
    return hashlib.sha256(example.encoded).hexdigest()


class _Lazy(Sequence[Example]):
    """Examples that are made when they are asked for: memory stays flat."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self.at(index)

    def at(self, index: int) -> Example:
        raise NotImplementedError


class _Chosen(_Lazy):
    def __init__(self, examples: Sequence[Example], kept: Sequence[int]) -> None:
        super().__init__(len(kept))
        self._examples, self._kept = examples, kept

    def at(self, index: int) -> Example:
        return self._examples[self._kept[index]]


class _Catalogued(_Lazy):
    def __init__(self, store: ExampleStore, rows: Sequence[StoredExample], classes: Sequence[str]) -> None:
        super().__init__(len(rows))
        self._store, self._rows = store, rows
        self._ids = {name: number for number, name in enumerate(classes)}

    def at(self, index: int) -> Example:
        row = self._rows[index]
        boxes = [(item.box.ymin, item.box.xmin, item.box.ymax, item.box.xmax) for item in row.boxes]
        return Example(
            name=row.name,
            encoded=self._store.jpeg(row),
            width=row.width,
            height=row.height,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array([self._ids[item.label] for item in row.boxes], np.int32),
        )


@contextmanager
def _archive(name: str, path: Path, work: Path) -> Iterator[PictureSet]:
    """All pictures of an archive, whatever part of a split they would be."""
    if not path.exists():
        raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no archive {path}")
    with read_dataset([Source(path.name, path)], ConvertSpec(sources=()), work) as conversion:
        classes = summarize(conversion).classes
        rows = list(conversion.store.examples())
        yield PictureSet(name, classes, _Catalogued(conversion.store, rows, classes))


def _classes(path: Path) -> tuple[str, ...]:
    try:
        return tuple(label.name for label in parse_label_map(path.read_text(encoding="utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name}: {error}") from None
