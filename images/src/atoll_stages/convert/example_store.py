"""The examples of one conversion on disk: a SQLite file, and one file with the prepared images.

All SQL of convert is here and in `split_table`. Rows are read as streams: memory does not grow with the dataset.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from atoll_stages.convert.boxes import Box, ClassBox
from atoll_stages.convert.images import PreparedImage
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
    annotation TEXT NOT NULL,
    dataset TEXT NOT NULL,
    split_of_tags TEXT,
    split_of_dataset TEXT,
    annotated TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    dropped_as TEXT,
    boxes TEXT,
    box_count INTEGER,
    width INTEGER,
    height INTEGER,
    source_sha256 TEXT,
    sha256 TEXT,
    dhash INTEGER,
    thumbnail BLOB,
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


class PendingExample(NamedTuple):
    """An example whose image has not been read yet."""

    id: int
    name: str
    path: Path
    annotation: str
    boxes: tuple[LabelledBox, ...]
    size: tuple[int, int] | None
    relative: bool


class StoredExample(NamedTuple):
    """An example with a prepared image; `offset` and `size` locate its JPEG in the file of images."""

    id: int
    source: int
    name: str
    width: int
    height: int
    sha256: str
    offset: int
    size: int
    split: str | None
    boxes: tuple[ClassBox, ...]


class ExactCopy(NamedTuple):
    """An example whose file equals that of the earlier example `first`, byte for byte."""

    id: int
    name: str
    split: str | None
    first: str
    first_split: str | None
    same_dataset: bool


class Fingerprint(NamedTuple):
    """What identifies an example's image, exactly and nearly."""

    id: int
    name: str
    split: str
    group: str
    source_sha256: str
    dhash: int
    thumbnail: bytes


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
        self._images = (folder / "images.bin").open("w+b")
        self._end = 0

    def close(self) -> None:
        self._database.close()
        self._images.close()

    # Reading archives.

    def add(self, source: int, item: AnnotatedImage) -> bool:
        """Adds an example of the archive number `source`; returns False where its image is annotated already."""
        image = (source, item.image.number, item.image.name, str(item.image.path), item.annotation, item.dataset)
        splits = split_of_tags(item.tags), split_of_dataset(item.dataset)
        annotated = json.dumps({"boxes": item.boxes, "size": item.size, "relative": item.relative})
        try:
            self._database.execute(
                "INSERT INTO example (source, member, name, path, annotation, dataset, split_of_tags, "
                "split_of_dataset, annotated, box_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*image, *splits, annotated, len(item.boxes)),
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def has_image(self, source: int, member: int) -> bool:
        return self._one("SELECT EXISTS (SELECT 1 FROM example WHERE source = ? AND member = ?)", source, member) == (
            1,
        )

    def pending(self, source: int) -> Iterator[PendingExample]:
        """Yields every example of an archive in the order of reading; the caller may drop or complete each."""
        query = (
            "SELECT id, name, path, annotation, annotated FROM example "
            "WHERE source = ? AND id > ? ORDER BY id LIMIT 256"
        )
        return map(_pending_example, self._pages(query, source))

    def pending_of(self, source: int, member: int) -> PendingExample:
        """Returns the example that has this image."""
        query = "SELECT id, name, path, annotation, annotated FROM example WHERE source = ? AND member = ?"
        return _pending_example(self._one(query, source, member))

    def add_boxes(self, pending: PendingExample, boxes: tuple[LabelledBox, ...]) -> None:
        """Adds boxes to an example whose image was not read yet."""
        boxes = (*pending.boxes, *boxes)
        annotated = json.dumps({"boxes": boxes, "size": pending.size, "relative": pending.relative})
        self._database.execute(
            "UPDATE example SET annotated = ?, box_count = ? WHERE id = ?", (annotated, len(boxes), pending.id)
        )

    def complete(self, number: int, image: PreparedImage, boxes: tuple[ClassBox, ...]) -> None:
        """Makes the example `number` usable, with its image and its usable boxes."""
        self._images.write(image.data)
        # SQLite's integers are signed.
        dhash = image.dhash - 2**64 if image.dhash >= 2**63 else image.dhash
        prepared = (image.width, image.height, image.source_sha256, image.sha256, dhash, image.thumbnail)
        self._database.execute(
            "UPDATE example SET status = 'usable', boxes = ?, box_count = ?, width = ?, height = ?, source_sha256 = ?, "
            "sha256 = ?, dhash = ?, thumbnail = ?, offset = ?, size = ?, annotated = '' WHERE id = ?",
            (json.dumps(boxes), len(boxes), *prepared, self._end, len(image.data), number),
        )
        self._end += len(image.data)

    def drop(self, number: int, kind: str) -> None:
        """Makes the example `number` unusable; `kind` is the reason."""
        query = "UPDATE example SET status = 'dropped', dropped_as = ?, annotated = '' WHERE id = ?"
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
            "SELECT id, source, name, width, height, sha256, offset, size, split, boxes FROM usable "
            "WHERE id > ? ORDER BY id LIMIT 256"
        )
        return map(_stored_example, self._pages(query))

    def examples_of(self, split: str) -> Iterator[StoredExample]:
        """Yields the examples of a split in the order of its records."""
        rows = self._database.execute(
            "SELECT id, source, name, width, height, sha256, offset, size, split, boxes FROM usable "
            "WHERE split = ? ORDER BY position, id",
            (split,),
        )
        return map(_stored_example, rows)

    def jpeg(self, example: StoredExample) -> bytes:
        self._images.seek(example.offset)
        return self._images.read(example.size)

    # Finding duplicates.

    def exact_copies(self) -> Iterator[ExactCopy]:
        """Yields every usable example that copies an earlier one; the caller may drop it."""
        query = (
            "SELECT b.id, b.name, b.split, a.name, a.split, a.source = b.source AND a.dataset = b.dataset "
            "FROM usable AS b JOIN example AS a ON a.source_sha256 = b.source_sha256 AND a.id = "
            "(SELECT MIN(c.id) FROM usable AS c WHERE c.source_sha256 = b.source_sha256) "
            "WHERE a.id < b.id AND b.id > ? ORDER BY b.id LIMIT 256"
        )
        return map(ExactCopy._make, self._pages(query))

    def copies_across_splits(self) -> Iterator[ExactCopy]:
        """Yields every usable example that copies an earlier one of another split."""
        query = (
            "SELECT b.id, b.name, b.split, a.name, a.split, 0 FROM usable AS b JOIN usable AS a "
            "ON a.source_sha256 = b.source_sha256 AND a.id < b.id AND a.split != b.split "
            "WHERE b.id > ? GROUP BY b.id ORDER BY b.id LIMIT 256"
        )
        return map(ExactCopy._make, self._pages(query))

    def fingerprints(self) -> Iterator[Fingerprint]:
        """Yields the fingerprints of all usable examples in the order of reading."""
        query = (
            "SELECT id, name, split, frame_group, source_sha256, dhash, thumbnail FROM usable "
            "WHERE id > ? ORDER BY id LIMIT 256"
        )
        return map(Fingerprint._make, self._pages(query))

    def index_dhash(self, number: int, bands: Iterable[tuple[int, int]]) -> None:
        """Lets `same_band` find the example `number` by these (number, bits) of its difference hash."""
        self._database.executemany(
            "INSERT INTO dhash_band VALUES (?, ?, ?)", ((band, bits, number) for band, bits in bands)
        )

    def same_band(self, band: int, bits: int, *, other_than: str, limit: int) -> Iterator[Fingerprint]:
        """Yields the latest indexed examples with these bits in a band, without copies of the file `other_than`."""
        rows = self._database.execute(
            "SELECT e.id, e.name, e.split, e.frame_group, e.source_sha256, e.dhash, e.thumbnail "
            "FROM dhash_band AS band JOIN example AS e ON e.id = band.id "
            "WHERE band.number = ? AND band.bits = ? AND e.source_sha256 != ? ORDER BY band.id DESC LIMIT ?",
            (band, bits, other_than, limit),
        )
        return map(Fingerprint._make, rows)

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return row

    def _pages(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a query that ends in `id > ? ORDER BY id LIMIT …`, a page at a time.

        Between pages no statement is open, so that rows may be changed.
        """
        last = 0
        while rows := self._database.execute(query, (*values, last)).fetchall():
            yield from rows
            last = rows[-1][0]


def _pending_example(row: tuple[Any, ...]) -> PendingExample:
    number, name, path, annotation, annotated = row
    raw = json.loads(annotated)
    boxes = tuple(LabelledBox(*box) for box in raw["boxes"])
    size = tuple(raw["size"]) if raw["size"] else None
    return PendingExample(number, name, Path(path), annotation, boxes, size, raw["relative"])


def _stored_example(row: tuple[Any, ...]) -> StoredExample:
    boxes = tuple(ClassBox(label, Box(*edges)) for label, edges in json.loads(row[-1]))
    return StoredExample._make((*row[:-1], boxes))


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """Raises SQLite's error for a full disk as the system's, which the stage's runtime knows."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
