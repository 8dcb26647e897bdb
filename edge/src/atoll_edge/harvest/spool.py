"""The harvested frames on the device's card: a bounded queue of files, oldest out.

    <order>-<sha256>.jpg     the picture
    <order>-<sha256>.json    its note, written after it: a frame without a note is none

Nothing is synced: losing the newest frames with the power costs nothing, and a card has only so many writes. What a
power cut tears is found by the digest in the name, and thrown away.
"""

import errno
import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.json")


@dataclass(frozen=True)
class Shelved:
    """A frame on the card; `size` counts both files."""

    name: str
    size: int

    @property
    def sha256(self) -> str:
        """Of the picture."""
        return self.name.partition("-")[2]


def free_bytes(folder: Path) -> int:
    """What the file system of `folder` has left."""
    return shutil.disk_usage(folder).free


class Shelf:
    """The folder `root`, made when it is needed. Holds at most `max_bytes`, and gives up its frames, the oldest first,
    where less than `min_free_bytes` are left for the rest of the device. Safe from any thread."""

    def __init__(
        self, root: Path, *, max_bytes: int, min_free_bytes: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._free = free
        self._lock = threading.Lock()
        self._items: list[Shelved] = self._found()
        self.evicted = 0

    @property
    def frames(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        with self._lock:
            return sum(item.size for item in self._items)

    def add(self, picture: bytes, note: bytes) -> None:
        """Put a frame on the shelf, after others have made room for it.

        Raises:
            OSError: the card is full (also: fuller than `min_free_bytes` allows) or cannot be written. Nothing of the
            frame is left then.
        """
        size = len(picture) + len(note)
        with self._lock:
            self.root.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            order = int(self._items[-1].name.partition("-")[0]) + 1 if self._items else 1
            item = Shelved(f"{order:010d}-{hashlib.sha256(picture).hexdigest()}", size)
            try:
                self._write(item, "jpg", picture)
                self._write(item, "json", note)
            except OSError:
                self._unlink(item)
                raise
            self._items.append(item)

    def oldest(self) -> Shelved | None:
        """The frame that came first."""
        with self._lock:
            return self._items[0] if self._items else None

    def read(self, item: Shelved) -> tuple[bytes, bytes] | None:
        """Picture and note; None where they are not what was put here."""
        try:
            picture, note = (self._path(item, kind).read_bytes() for kind in ("jpg", "json"))
        except OSError as error:
            logger.warning("harvested frame %s: %s", item.name[:16], error)
            return None
        return (picture, note) if hashlib.sha256(picture).hexdigest() == item.sha256 and note else None

    def remove(self, item: Shelved) -> None:
        """Take a frame off the shelf; one that is gone already is fine."""
        with self._lock:
            self._drop(item)

    def give_back(self) -> None:
        """Remove the oldest frames while the card has less free than it should."""
        with self._lock:
            while self._items and self._free(self.root) < self._min_free_bytes:
                self._evict()

    def _make_room(self, size: int) -> None:
        while self._items and self._crowded(size):
            self._evict()
        if self._crowded(size):
            raise OSError(errno.ENOSPC, "the card has too little room for harvested frames", str(self.root))

    def _crowded(self, size: int) -> bool:
        held = sum(item.size for item in self._items)
        return held + size > self._max_bytes or self._free(self.root) - size < self._min_free_bytes

    def _evict(self) -> None:
        self._drop(self._items[0])
        self.evicted += 1

    def _drop(self, item: Shelved) -> None:
        if item in self._items:
            self._items.remove(item)
        self._unlink(item)

    def _unlink(self, item: Shelved) -> None:
        # The note first: without it the picture is none.
        for kind in ("json", "jpg"):
            try:
                self._path(item, kind).unlink(missing_ok=True)
            except OSError as error:
                logger.warning("harvested frame %s cannot be removed: %s", item.name[:16], error)

    def _write(self, item: Shelved, kind: str, data: bytes) -> None:
        partial = self.root / "new.part"
        try:
            partial.write_bytes(data)
            partial.replace(self._path(item, kind))
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, item: Shelved, kind: str) -> Path:
        return self.root / f"{item.name}.{kind}"

    def _found(self) -> list[Shelved]:
        """What an earlier process left, in its order; pictures without a note are removed."""
        try:
            names = sorted(path.stem for path in self.root.iterdir() if _NAME.fullmatch(path.name))
            strays = [path for path in self.root.iterdir() if path.stem not in names]
            items = [Shelved(name, sum(self._size(name, kind) for kind in ("jpg", "json"))) for name in names]
            for path in strays:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.warning("harvested frames of before cannot be read: %s", error)
            return []
        return items

    def _size(self, name: str, kind: str) -> int:
        path = self.root / f"{name}.{kind}"
        return path.stat().st_size if path.is_file() else 0
