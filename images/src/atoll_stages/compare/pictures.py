"""The pictures that models are compared on: evaluation records of a run, or a labelled archive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract.comparison import Contender, PictureSource
from atoll_contract.errors import DatasetError, IntegrityError
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.reasons import Reason
from atoll_contract.stage import ConvertSpec
from atoll_stages.convert.catalog import Catalog, Ready
from atoll_stages.convert.conversion import Source, collected
from atoll_stages.convert.findings import conclude
from atoll_stages.train.records import Example, Records


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
    def __init__(self, catalog: Catalog, rows: Sequence[Ready], classes: Sequence[str]) -> None:
        super().__init__(len(rows))
        self._catalog, self._rows = catalog, rows
        self._ids = {name: number for number, name in enumerate(classes)}

    def at(self, index: int) -> Example:
        row = self._rows[index]
        boxes = [(item.box.ymin, item.box.xmin, item.box.ymax, item.box.xmax) for item in row.boxes]
        return Example(
            name=row.name,
            encoded=self._catalog.jpeg(row),
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
    with collected([Source(path.name, path)], ConvertSpec(sources=()), work) as conversion:
        classes = conclude(conversion).classes
        rows = list(conversion.catalog.ready())
        yield PictureSet(name, classes, _Catalogued(conversion.catalog, rows, classes))


def _classes(path: Path) -> tuple[str, ...]:
    try:
        return tuple(label.name for label in parse_label_map(path.read_text(encoding="utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name}: {error}") from None
