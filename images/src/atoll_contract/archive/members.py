"""The extracted members of an archive: one file with their bytes, and an index of their names.

A file for each member would cost more time than to copy it, and a name could lead it astray.

The index is an SQLite file, so that a million members take no more memory than ten.
"""

import io
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast
from urllib.parse import unquote

from atoll_contract.archive.limits import comparable, shown
from atoll_contract.errors import DatasetError, Reason

_SCHEMA = """
CREATE TABLE member (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    folder TEXT NOT NULL,
    base TEXT NOT NULL,
    stem TEXT NOT NULL,
    suffix TEXT NOT NULL,
    size INTEGER NOT NULL,
    path TEXT,
    offset INTEGER NOT NULL
);
CREATE INDEX member_folder ON member (folder);
CREATE INDEX member_base ON member (base);
CREATE INDEX member_stem ON member (stem);
CREATE INDEX member_suffix ON member (suffix);
CREATE INDEX member_name ON member (name);
"""
_COLUMNS = "number, name, size, path, offset"
# The members of one name in different folders that a search returns at most.
_MAX_ALIKE = 200
# Label Studio puts eight hexadecimal digits before the name of each file that is uploaded.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def stem_and_suffix(name: str) -> tuple[str, str]:
    """Returns the file name of a path in two parts; the second begins with the last dot, or is empty.

    It is `PurePosixPath`'s division, which costs most of the time that a member takes.
    """
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return (base[:dot], base[dot:]) if 0 < dot < len(base) - 1 else (base, "")


def plain_stem(stem: str) -> str:
    """Returns the stem of a file name without what tools add to it: percent-encoding, the digits of an upload.

    Two stems that differ only in case, Unicode form or these are equal.
    """
    return comparable(UPLOAD_PREFIX.sub("", unquote(stem)))


@dataclass(frozen=True)
class Member:
    """A regular file of an archive: `name` is its path inside the archive. Its bytes are `size` bytes of the file
    `path`, from `offset` on."""

    number: int
    name: str
    size: int
    path: str
    offset: int = 0

    def open(self) -> BinaryIO:
        """Opens the member for reading; the caller closes it."""
        return cast(BinaryIO, io.BufferedReader(_Part(self)))

    def read(self) -> bytes:
        """Returns all of its bytes."""
        with io.FileIO(self.path) as file:
            file.seek(self.offset)
            return file.read(self.size) or b""

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder inside the archive, without a slash at its end; empty at the root."""
        return self.name.rpartition("/")[0]


class _Part(io.RawIOBase):
    """A member's part of the file that holds it."""

    def __init__(self, member: Member) -> None:
        self._file = io.FileIO(member.path)
        self._start, self._size, self._at = member.offset, member.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class Members:
    """The members of one archive. Used by one thread; `close` leaves the files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What was found in the archive but not read, for a warning.
        self.notes: list[str] = []
        folder.mkdir(parents=True)
        self._pack = folder / "members.bin"
        self._writer = self._pack.open("xb")
        # The file that has the members' bytes.
        self._read_from = self._pack
        self._database = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
        # The index is rebuilt from the archive after a crash: no journal, no fsync, one transaction.
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA + "BEGIN;")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        count: int = self._database.execute("SELECT COUNT(*) FROM member").fetchone()[0]
        return count

    @property
    def next_number(self) -> int:
        """One more than the highest number; folders and litter of the archive have numbers, too, and are no members."""
        number: int = self._database.execute("SELECT COALESCE(MAX(number), -1) + 1 FROM member").fetchone()[0]
        return number

    def __iter__(self) -> Iterator[Member]:
        """All members by number, a page at a time."""
        last = -1
        while page := self._many("number > ? ORDER BY number LIMIT 1000", last):
            yield from page
            last = page[-1].number

    def close(self) -> None:
        self._database.close()
        self._writer.close()

    def lie_in(self, archive: Path) -> None:
        """Takes the bytes of all members from the archive itself, which must stay as it is."""
        self._read_from = archive

    @property
    def are_copied(self) -> bool:
        """Whether the archive is not needed any more."""
        return self._read_from == self._pack

    def write(self, piece: bytes) -> None:
        """Appends a piece to the member that was claimed last. It can be read once `flush` was called."""
        self._writer.write(piece)

    def flush(self) -> None:
        self._writer.flush()

    def drop_bytes(self) -> None:
        """Removes the bytes of all members from the disk; their names stay."""
        self._writer.close()
        self._pack.unlink()

    def claim(
        self, number: int, name: str, *, path: Path | None = None, offset: int | None = None, size: int = 0
    ) -> None:
        """Adds a member to the index, before its bytes are written. They are those of the file `path`, or begin at
        `offset` where all members lie in the archive.

        Raises:
            DatasetError: the archive holds this name already, be it in other case or another Unicode form.
        """
        key = comparable(name)
        stem, suffix = stem_and_suffix(name)
        names = (key.rpartition("/")[0], comparable(stem + suffix), plain_stem(stem), suffix.lower())
        start = 0 if path else self._writer.tell() if offset is None else offset
        row = (number, key, name, *names, size, None if path is None else str(path), start)
        try:
            self._database.execute("INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            first = self.get(name)
            other = first.name if first else name
            raise DatasetError(
                Reason.DATASET_MALFORMED,
                f"duplicate member {shown(name)} (2 times: member {first.number if first else '?'} "
                f"{shown(other)} and member {number}; case and Unicode form do not count); keep one, or give archives "
                "that were joined each alone",
            ) from None

    def set_size(self, number: int, size: int) -> None:
        self._database.execute("UPDATE member SET size = ? WHERE number = ?", (size, number))

    def get(self, name: str) -> Member | None:
        """The member of this path; case and Unicode form do not count."""
        return self._one("key = ?", comparable(name))

    def by_base(self, base: str, *, folders: Sequence[str] = ()) -> list[Member]:
        """Members with this file name, in these folders or in any, by name; of very many only the first."""
        return self._alike("base = ?", (comparable(base),), folders)

    def by_stem(self, stem: str, suffixes: Sequence[str], *, folders: Sequence[str] = ()) -> list[Member]:
        """Members with this stem (`plain_stem`) and one of these suffixes, as `by_base` returns them."""
        where = f"stem = ? AND suffix IN ({_placeholders(suffixes)})"
        return self._alike(where, (plain_stem(stem), *suffixes), folders)

    def has_in(self, folder: str, suffixes: Sequence[str]) -> bool:
        """Whether the folder itself holds a member with one of these suffixes."""
        where = f"folder = ? AND suffix IN ({_placeholders(suffixes)}) LIMIT 1"
        return bool(self._many(where, comparable(folder), *suffixes))

    def has_below(self, folder: str) -> bool:
        """Whether there is a member in the folder, or in a folder below it."""
        # "0" is the character after "/".
        key = comparable(folder)
        return self._one("key > ? AND key < ? LIMIT 1", f"{key}/", f"{key}0") is not None

    def with_suffix(self, *suffixes: str) -> Iterator[Member]:
        """Members whose lower-case suffix is one of these, by name, a page at a time."""
        last = ""
        while page := self._many(
            f"suffix IN ({_placeholders(suffixes)}) AND name > ? ORDER BY name LIMIT 1000", *suffixes, last
        ):
            yield from page
            last = page[-1].name

    def total_size(self) -> int:
        """The bytes of all members together."""
        total: int = self._database.execute("SELECT COALESCE(SUM(size), 0) FROM member").fetchone()[0]
        return total

    def count_with_suffix(self, *suffixes: str) -> int:
        """How many members have one of these lower-case suffixes."""
        query = f"SELECT COUNT(*) FROM member WHERE suffix IN ({_placeholders(suffixes)})"  # noqa: S608 - as `_many`
        count: int = self._database.execute(query, suffixes).fetchone()[0]
        return count

    def _one(self, where: str, *values: str | int) -> Member | None:
        found = self._many(where, *values)
        return found[0] if found else None

    def _alike(self, where: str, values: Sequence[str], folders: Sequence[str]) -> list[Member]:
        inside = f" AND folder IN ({_placeholders(folders)})" if folders else ""
        return self._many(f"{where}{inside} ORDER BY name LIMIT ?", *values, *map(comparable, folders), _MAX_ALIKE)

    def _many(self, where: str, *values: str | int) -> list[Member]:
        # `where` is one of the literals above; values are bound.
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM member WHERE {where}", values).fetchall()  # noqa: S608
        pack = str(self._read_from)
        return [Member(number, name, size, path or pack, offset) for number, name, size, path, offset in rows]


def _placeholders(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
