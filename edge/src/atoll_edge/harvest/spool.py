"""The harvested frames on the device's card, and their upload: a bounded queue of files, the oldest removed first.

    <order>-<sha256>.jpg     the image
    <order>-<sha256>.json    its note, written after it: an image without a note is not in the queue

Nothing is synced: the newest frames may be lost with the power, and a card endures a limited number of writes. A file
that a power cut damaged is found by the digest in its name, and is dropped.
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

from atoll_contract import keys
from atoll_contract.errors import AtollError
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.models.poller import PollSchedule

logger = logging.getLogger(__name__)

# At most one frame a second is uploaded: the robot's radio has other uses.
UPLOAD_SECONDS = 1.0
# A call to the bucket retries for this long only, because a match may begin meanwhile; then the schedule retries.
RETRY_TIMEOUT_SECONDS = 5.0

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.json")


@dataclass(frozen=True)
class SpooledFrame:
    """A frame on the card; `size` is that of both files, in bytes."""

    name: str
    size: int

    @property
    def sha256(self) -> str:
        """The digest of the image."""
        return self.name.partition("-")[2]


def free_bytes(folder: Path) -> int:
    """Returns the free bytes of the file system of `folder`."""
    return shutil.disk_usage(folder).free


class Spool:
    """The folder `root`, created when it is needed. Holds at most `max_bytes`, and removes its oldest frames while the
    rest of the device has less than `min_free_bytes` left. Safe from any thread."""

    def __init__(
        self, root: Path, *, max_bytes: int, min_free_bytes: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        self.root = root
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._free = free
        self._lock = threading.Lock()
        self._items: list[SpooledFrame] = self._existing()
        self.evicted = 0

    @property
    def frames(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        with self._lock:
            return sum(item.size for item in self._items)

    def add(self, image: bytes, note: bytes) -> None:
        """Adds a frame, after removing others to make room for it.

        Raises:
            OSError: the card is full, or fuller than `min_free_bytes` allows, or cannot be written. Nothing of the
            frame is left then.
        """
        size = len(image) + len(note)
        with self._lock:
            self.root.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            order = int(self._items[-1].name.partition("-")[0]) + 1 if self._items else 1
            item = SpooledFrame(f"{order:010d}-{hashlib.sha256(image).hexdigest()}", size)
            try:
                self._write(item, "jpg", image)
                self._write(item, "json", note)
            except OSError:
                self._unlink(item)
                raise
            self._items.append(item)

    def oldest(self) -> SpooledFrame | None:
        """Returns the frame that was added first; None if there is none."""
        with self._lock:
            return self._items[0] if self._items else None

    def read(self, item: SpooledFrame) -> tuple[bytes, bytes] | None:
        """Returns the image and the note; None if they are damaged."""
        try:
            image, note = (self._path(item, kind).read_bytes() for kind in ("jpg", "json"))
        except OSError as error:
            logger.warning("harvested frame %s: %s", item.name[:16], error)
            return None
        return (image, note) if hashlib.sha256(image).hexdigest() == item.sha256 and note else None

    def remove(self, item: SpooledFrame) -> None:
        """Removes a frame, which may be gone already."""
        with self._lock:
            self._drop(item)

    def free_space(self) -> None:
        """Removes the oldest frames while the card has less than `min_free_bytes` left."""
        with self._lock:
            while self._items and self._free(self.root) < self._min_free_bytes:
                self._evict()

    def _make_room(self, size: int) -> None:
        while self._items and self._lacks_room(size):
            self._evict()
        if self._lacks_room(size):
            raise OSError(errno.ENOSPC, "the card has too little room for harvested frames", str(self.root))

    def _lacks_room(self, size: int) -> bool:
        stored = sum(item.size for item in self._items)
        return stored + size > self._max_bytes or self._free(self.root) - size < self._min_free_bytes

    def _evict(self) -> None:
        self._drop(self._items[0])
        self.evicted += 1

    def _drop(self, item: SpooledFrame) -> None:
        if item in self._items:
            self._items.remove(item)
        self._unlink(item)

    def _unlink(self, item: SpooledFrame) -> None:
        # The note first: without it the image is not in the queue.
        for kind in ("json", "jpg"):
            try:
                self._path(item, kind).unlink(missing_ok=True)
            except OSError as error:
                logger.warning("harvested frame %s cannot be removed: %s", item.name[:16], error)

    def _write(self, item: SpooledFrame, kind: str, data: bytes) -> None:
        partial = self.root / "new.part"
        try:
            partial.write_bytes(data)
            partial.replace(self._path(item, kind))
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, item: SpooledFrame, kind: str) -> Path:
        return self.root / f"{item.name}.{kind}"

    def _existing(self) -> list[SpooledFrame]:
        """Lists the frames that an earlier process left, in their order; removes images without a note."""
        try:
            names = sorted(path.stem for path in self.root.iterdir() if _NAME.fullmatch(path.name))
            known = set(names)
            strays = [path for path in self.root.iterdir() if path.stem not in known]
            items = [SpooledFrame(name, sum(self._size(name, kind) for kind in ("jpg", "json"))) for name in names]
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


@dataclass(frozen=True)
class Destination:
    """The bucket, and the device whose prefix in it the frames go to; the device may write nowhere else."""

    store: Store
    namespace: str
    device: str


class SpoolUploader:
    """Uploads one frame for each `step`. Keys are made of the image's digest, so that an upload that
    was interrupted, or whose response was lost, can be repeated."""

    def __init__(self, spool: Spool, destination: Destination, *, allowed: Callable[[], bool]) -> None:
        self._spool = spool
        self._destination = destination
        self._allowed = allowed
        self._schedule = PollSchedule(UPLOAD_SECONDS)
        self.uploaded = 0
        self.damaged = 0
        self.last_error: str | None = None

    def step(self, now: float) -> None:
        """Uploads the oldest frame if that is due and allowed, and removes it from the spool."""
        if not self._schedule.due(now, locked=not self._allowed()):
            return
        item = self._spool.oldest()
        if item is None:
            return
        content = self._spool.read(item)
        if content is None:
            self.damaged += 1
            self._spool.remove(item)
            return
        try:
            self._put(item.sha256, *content)
        except (AtollError, OSError) as error:
            logger.warning("a harvested frame was not taken: %s", error)
            self.last_error = str(error)
            self._schedule.failed(now)
            return
        self._spool.remove(item)
        self.uploaded += 1
        self.last_error = None
        self._schedule.succeeded(now)

    def _put(self, sha256: str, image: bytes, note: bytes) -> None:
        to = self._destination
        to.store.put(keys.harvested_image(to.namespace, to.device, sha256), image)
        to.store.put(keys.harvested_note(to.namespace, to.device, sha256), note)


def open_upload_store(spec: StoreSpec) -> Store:
    """Opens the bucket of `spec`, with calls that give up soon."""
    if spec.type is StoreType.DIRECTORY:
        return open_store(spec)
    return S3Store(spec, backoff=Backoff(total=RETRY_TIMEOUT_SECONDS))
