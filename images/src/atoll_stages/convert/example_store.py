"""The examples of one conversion on disk: a SQLite file, and files with the prepared images.

All SQL of convert is here, in `split_table` and in `duplicate_table`. Rows are read as streams: memory does not grow
with the dataset.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from atoll_stages.convert.boxes import ClassBox
from atoll_stages.convert.duplicate_table import DuplicateTable, pages
from atoll_stages.convert.packs import Packs
from atoll_stages.convert.prepared import ImageFacts, ImageFile, PreparedFile
from atoll_stages.convert.readers.base import AnnotatedImage, LabelledBox
from atoll_stages.convert.split_names import split_of_dataset, split_of_tags
from atoll_stages.convert.split_table import SplitTable
from atoll_stages.convert.totals import USED

_SCHEMA = """
CREATE TABLE example (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,
    member INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    start INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    annotation TEXT NOT NULL,
    dataset TEXT NOT NULL,
    split_of_tags TEXT,
    split_of_dataset TEXT,
    annotated TEXT NOT NULL,
    facts TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    dropped_as TEXT,
    boxes BLOB,
    box_count INTEGER,
    width INTEGER,
    height INTEGER,
    source_sha256 TEXT,
    sha256 TEXT,
    dhash INTEGER,
    thumbnail BLOB,
    pack TEXT,
    offset INTEGER,
    size INTEGER,
    series TEXT,
    frame INTEGER,
    frame_group TEXT,
    split TEXT,
    position TEXT,
    UNIQUE (source, member)
);
CREATE INDEX example_source_sha256 ON example (source_sha256, id);
CREATE VIEW usable AS SELECT * FROM example WHERE status = 'usable';
CREATE TABLE dhash_band (number INTEGER, bits INTEGER, id INTEGER);
CREATE INDEX dhash_band_bits ON dhash_band (number, bits, id);
"""
# Their names are checked, so that no half of a character is among them, which this encoder refuses.
_BOXES = msgspec.json.Decoder(tuple[ClassBox, ...])


class PendingExample(NamedTuple):
    """An example that is annotated, and not completed or dropped yet."""

    id: int
    name: str
    annotation: str
    boxes: tuple[LabelledBox, ...]
    size: tuple[int, int] | None
    relative: bool


class StoredExample(NamedTuple):
    """An example with a prepared image; `pack`, `offset` and `size` locate its JPEG in the files of images."""

    id: int
    source: int
    name: str
    width: int
    height: int
    sha256: str
    pack: str
    offset: int
    size: int
    split: str | None
    boxes: tuple[ClassBox, ...]


class ExampleStore:
    """The examples of one conversion, in `folder`; used by one thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "examples.sqlite", isolation_level=None)
        # A killed conversion starts over: no journal, no fsync, one transaction. Sorting spills to disk.
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE;" + _SCHEMA + "BEGIN;"
        )
        self.splits = SplitTable(self._database)
        self.duplicates = DuplicateTable(self._database)
        self.packs = Packs(folder / "packs")

    def close(self) -> None:
        self._database.close()
        self.packs.close()

    # Reading archives.

    def add(self, source: int, item: AnnotatedImage) -> bool:
        """Adds an example of the archive number `source`; returns False where its image is annotated already."""
        of = item.image
        image = (source, of.number, of.name, of.path, of.offset, of.size, item.annotation, item.dataset)
        splits = split_of_tags(item.tags), split_of_dataset(item.dataset)
        annotated = json.dumps({"boxes": item.boxes, "size": item.size, "relative": item.relative})
        try:
            self._database.execute(
                "INSERT INTO example (source, member, name, path, start, bytes, annotation, dataset, split_of_tags, "
                "split_of_dataset, annotated, box_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*image, *splits, annotated, len(item.boxes)),
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def has_image(self, source: int, member: int) -> bool:
        return self._one("SELECT EXISTS (SELECT 1 FROM example WHERE source = ? AND member = ?)", source, member) == (
            1,
        )

    def files(self, source: int, *, after: int, limit: int) -> list[ImageFile]:
        """Returns the pictures of the next examples of an archive behind the number `after`."""
        query = "SELECT id, name, path, start, bytes FROM example WHERE source = ? AND id > ? ORDER BY id LIMIT ?"
        return [ImageFile(*row) for row in self._database.execute(query, (source, after, limit))]

    def add_prepared(self, files: Iterable[PreparedFile]) -> None:
        """Adds what became of the pictures of examples; each of these may then be completed or dropped."""
        self._database.executemany(
            "UPDATE example SET facts = ?, width = ?, height = ?, source_sha256 = ?, sha256 = ?, dhash = ?, "
            "thumbnail = ?, pack = ?, offset = ?, size = ? WHERE id = ?",
            map(_prepared_row, files),
        )

    def prepared(self, source: int, *, after: int, up_to: int) -> Iterator[tuple[PendingExample, ImageFacts]]:
        """Yields the examples of an archive with these numbers in the order of reading; all have their picture.

        The caller may drop or complete each.
        """
        query = (
            "SELECT id, name, annotation, annotated, facts FROM example "
            "WHERE source = ? AND id <= ? AND id > ? ORDER BY id LIMIT 256"
        )
        for *row, facts in pages(self._database, query, source, up_to, after=after):
            yield _pending_example(tuple(row)), ImageFacts(*json.loads(facts))

    def pending_of(self, source: int, member: int) -> PendingExample:
        """Returns the example that has this image."""
        query = "SELECT id, name, annotation, annotated FROM example WHERE source = ? AND member = ?"
        return _pending_example(self._one(query, source, member))

    def add_boxes(self, pending: PendingExample, boxes: tuple[LabelledBox, ...]) -> None:
        """Adds boxes to an example whose image was not read yet."""
        boxes = (*pending.boxes, *boxes)
        annotated = json.dumps({"boxes": boxes, "size": pending.size, "relative": pending.relative})
        self._database.execute(
            "UPDATE example SET annotated = ?, box_count = ? WHERE id = ?", (annotated, len(boxes), pending.id)
        )

    def complete(self, number: int, boxes: tuple[ClassBox, ...]) -> None:
        """Makes the example `number`, whose picture is there, usable with these boxes."""
        self._database.execute(
            "UPDATE example SET status = 'usable', boxes = ?, box_count = ?, annotated = '', facts = NULL WHERE id = ?",
            (msgspec.json.encode(boxes), len(boxes), number),
        )

    def drop(self, number: int, kind: str) -> None:
        """Makes the example `number` unusable; `kind` is the reason."""
        query = "UPDATE example SET status = 'dropped', dropped_as = ?, annotated = '', facts = NULL WHERE id = ?"
        self._database.execute(query, (kind, number))

    # Counting and writing.

    def count(self) -> int:
        """Returns the number of examples, dropped ones included."""
        total: int = self._one("SELECT COUNT(*) FROM example")[0]
        return total

    def count_source(self, source: int) -> tuple[int, int]:
        """Returns the number of usable images and boxes of an archive."""
        images, boxes = self._one("SELECT COUNT(*), COALESCE(SUM(box_count), 0) FROM usable WHERE source = ?", source)
        return images, boxes

    def fates(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns images and boxes by the reason for which they were dropped; `used` has those that were not."""
        rows = self._database.execute(
            "SELECT COALESCE(dropped_as, ?), COUNT(*), SUM(box_count) FROM example GROUP BY dropped_as", (USED,)
        ).fetchall()
        return {kind: images for kind, images, _ in rows}, {kind: boxes for kind, _, boxes in rows}

    def split_size(self, split: str) -> tuple[int, int]:
        """Returns the number of images in a split, and the bytes of their JPEGs together."""
        images, size = self._one("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM usable WHERE split = ?", split)
        return images, size

    def examples(self) -> Iterator[StoredExample]:
        """Yields all usable examples in the order of reading."""
        query = (
            "SELECT id, source, name, width, height, sha256, pack, offset, size, split, boxes FROM usable "
            "WHERE id > ? ORDER BY id LIMIT 256"
        )
        return map(_stored_example, pages(self._database, query))

    def examples_of(self, split: str) -> Iterator[StoredExample]:
        """Yields the examples of a split in the order of its records."""
        rows = self._database.execute(
            "SELECT id, source, name, width, height, sha256, pack, offset, size, split, boxes FROM usable "
            "WHERE split = ? ORDER BY position, id",
            (split,),
        )
        return map(_stored_example, rows)

    def jpeg(self, example: StoredExample) -> bytes:
        return self.packs.read(example.pack, example.offset, example.size)

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return row


def _pending_example(row: tuple[Any, ...]) -> PendingExample:
    number, name, annotation, annotated = row
    raw = json.loads(annotated)
    boxes = tuple(LabelledBox(*box) for box in raw["boxes"])
    size = tuple(raw["size"]) if raw["size"] else None
    return PendingExample(number, name, annotation, boxes, size, raw["relative"])


def _prepared_row(item: PreparedFile) -> tuple[Any, ...]:
    image = item.image
    if image is None:
        return json.dumps(item.facts), *(None for _ in range(9)), item.id
    # SQLite's integers are signed.
    dhash = image.dhash - 2**64 if image.dhash >= 2**63 else image.dhash
    return json.dumps(item.facts), *image._replace(dhash=dhash), item.id


def _stored_example(row: tuple[Any, ...]) -> StoredExample:
    return StoredExample._make((*row[:-1], _BOXES.decode(row[-1])))


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """Raises SQLite's error for a full disk as the system's, which the stage's runtime knows."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
