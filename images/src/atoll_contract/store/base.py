"""The interface of the object store, its errors, and the check of its conditional put.

Keys are relative to the store's prefix; only `keys.py` builds them.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atoll_contract.errors import AtollError, Reason
from atoll_contract.keys import probe

SMALL_OBJECT = 16 * 2**20

# A publisher writes blobs before the manifest that names them. So `atoll prune` keeps blobs that are younger than this,
# and a publisher writes a blob again that is older than half of it.
BLOB_GRACE_SECONDS = 24 * 3600.0
WRITERS = 32
# A server that does not check and write atomically may pass once by chance.
ROUNDS = 3

# Called with the number of bytes of each step; negative where received bytes are fetched again.
Transferred = Callable[[int], None]


class StoreError(AtollError):
    """An operation of the store failed. The message names store, key and operation, and no credential."""


class ObjectNotFound(StoreError):
    """There is no object at this key."""

    def __init__(self, message: str, reason: Reason = Reason.DATASET_NOT_FOUND) -> None:
        super().__init__(reason, message)


class PreconditionFailed(StoreError):
    """The condition of a request failed: the key exists, or its object is not the expected one."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.VERSION_CONFLICT, message)


class StoreUnavailable(StoreError):
    """The store does not answer, answers 5xx, or throttles; a later try may succeed."""

    def __init__(self, message: str, reason: Reason = Reason.STORAGE_UNAVAILABLE) -> None:
        super().__init__(reason, message)


class StoreForbidden(StoreError):
    """Credentials are missing or wrong, or do not permit this operation."""

    def __init__(self, message: str, reason: Reason = Reason.STORAGE_FORBIDDEN) -> None:
        super().__init__(reason, message)


@dataclass(frozen=True)
class ObjectInfo:
    """Metadata of an object. `sha256` (hex) is set where Atoll wrote the object; `etag` identifies its bytes in this
    store; `modified_at` (seconds since 1970 by the store's clock) is set by `list`."""

    key: str
    size: int
    etag: str
    sha256: str | None = None
    modified_at: float | None = field(default=None, compare=False)


class Store(Protocol):
    """A bucket or a folder. Methods retry by themselves; each may raise StoreUnavailable or StoreForbidden."""

    @property
    def url(self) -> str:
        """The store's name in messages: `s3://bucket/prefix` or a path, without credentials."""
        ...

    def head(self, key: str) -> ObjectInfo | None: ...

    def get(self, key: str, *, limit: int = SMALL_OBJECT) -> bytes:
        """The whole object. Raises ObjectNotFound, or IntegrityError past `limit` bytes."""
        ...

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        """Bytes and ETag, or None while the object still has `etag` (HTTP 304)."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        """Writes a small object. Raises PreconditionFailed where `if_absent` or `if_match` does not hold."""
        ...

    def upload(self, key: str, path: Path, *, transferred: Transferred | None = None) -> ObjectInfo:
        """Writes a file of any size. It becomes visible at `key` when all of it is there."""
        ...

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        etag: str | None = None,
        transferred: Transferred | None = None,
    ) -> ObjectInfo:
        """Fetches an object to `path` (a temporary file, renamed) and resumes after a broken connection. The result
        has its sha256.

        Raises:
            ObjectNotFound: there is no such object.
            IntegrityError: the bytes did not match `sha256`, three times in a row.
            PreconditionFailed: the object's ETag is no longer `etag`.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields every object below `prefix`, in the order of keys."""
        ...

    def delete(self, key: str) -> None:
        """Deletes an object; no error where there is none."""
        ...


def require_conditional_put(store: Store, *, namespace: str, model: str) -> None:
    """Checks that a conditional put is atomic: `WRITERS` threads put one key at once, `ROUNDS` times.

    Raises:
        StoreError: `StoreUnsuitable`, where not exactly one of them succeeded, or the object is not that one's.
    """
    for _ in range(ROUNDS):
        key = probe(namespace, model, secrets.token_hex(8))
        try:
            winners = _winners(store, key)
            kept = store.get(key) if winners else b""
            overwritten = _put(store, key, b"late")
        finally:
            store.delete(key)
        if len(winners) != 1 or kept != winners[0] or overwritten:
            raise StoreError(Reason.STORE_UNSUITABLE, _unsuitable(store, len(winners)))


def _unsuitable(store: Store, winners: int) -> str:
    outcome = "it was overwritten afterwards" if winners == 1 else f"{winners} were told that they had"
    return (
        f"{store.url} does not keep conditional writes: of {WRITERS} writers of a key exactly one may succeed, "
        f"{outcome}; publish from a cluster, where the API server is the lock, or use another store"
    )


def _winners(store: Store, key: str) -> list[bytes]:
    start = threading.Barrier(WRITERS)

    def write(number: int) -> bytes | None:
        data = f"writer {number} {secrets.token_hex(8)}".encode()
        start.wait(timeout=60)
        return data if _put(store, key, data) else None

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="probe") as pool:
        return [data for data in pool.map(write, range(WRITERS)) if data is not None]


def _put(store: Store, key: str, data: bytes) -> bool:
    try:
        store.put(key, data, if_absent=True)
    except PreconditionFailed:
        return False
    return True
