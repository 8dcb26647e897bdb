"""What finds copies in a conversion's SQLite file: see `example_store`."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


def pages(database: sqlite3.Connection, query: str, *values: Any, after: int = 0) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of a query that ends in `id > ? ORDER BY id LIMIT …`, a page at a time.

    Between pages no statement is open, so that rows may be changed.
    """
    last = after
    while rows := database.execute(query, (*values, last)).fetchall():
        yield from rows
        last = rows[-1][0]


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


class DuplicateTable:
    """The usable examples by the digest of their file, and by the bits of their difference hash."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def exact_copies(self) -> Iterator[ExactCopy]:
        """Yields every usable example that copies an earlier one; the caller may drop it."""
        query = (
            "SELECT b.id, b.name, b.split, a.name, a.split, a.source = b.source AND a.dataset = b.dataset "
            "FROM usable AS b JOIN example AS a ON a.source_sha256 = b.source_sha256 AND a.id = "
            "(SELECT MIN(c.id) FROM usable AS c WHERE c.source_sha256 = b.source_sha256) "
            "WHERE a.id < b.id AND b.id > ? ORDER BY b.id LIMIT 256"
        )
        return map(ExactCopy._make, pages(self._database, query))

    def copies_across_splits(self) -> Iterator[ExactCopy]:
        """Yields every usable example that copies an earlier one of another split."""
        query = (
            "SELECT b.id, b.name, b.split, a.name, a.split, 0 FROM usable AS b JOIN usable AS a "
            "ON a.source_sha256 = b.source_sha256 AND a.id < b.id AND a.split != b.split "
            "WHERE b.id > ? GROUP BY b.id ORDER BY b.id LIMIT 256"
        )
        return map(ExactCopy._make, pages(self._database, query))

    def fingerprints(self) -> Iterator[Fingerprint]:
        """Yields the fingerprints of all usable examples in the order of reading."""
        query = (
            "SELECT id, name, split, frame_group, source_sha256, dhash, thumbnail FROM usable "
            "WHERE id > ? ORDER BY id LIMIT 256"
        )
        return map(Fingerprint._make, pages(self._database, query))

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
