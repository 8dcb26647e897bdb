"""The object store as Atoll uses it, and what can go wrong with it.

Keys are relative to the store's prefix and made by `keys.py` alone.
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

# A blob that no manifest names may be a publisher's, who puts the manifest after it: `atoll prune` leaves blobs alone
# that are younger, and a publisher writes blobs anew that are older than half of it.
BLOB_GRACE_SECONDS = 24 * 3600.0

# Is given the bytes of each step; a negative number where what was received is fetched anew.
Transferred = Callable[[int], None]


class StoreError(AtollError):
    """The store could not do what was asked. The text names store, key and operation, never a credential."""


class ObjectNotFound(StoreError):
    """There is no object at this key."""

    def __init__(self, message: str, reason: Reason = Reason.DATASET_NOT_FOUND) -> None:
        super().__init__(reason, message)


class PreconditionFailed(StoreError):
    """A conditional request did not hold: the key is taken, or its object is another than expected."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.VERSION_CONFLICT, message)


class StoreUnavailable(StoreError):
    """The store does not answer, answers 5xx, or throttles; another try later may work."""

    def __init__(self, message: str, reason: Reason = Reason.STORAGE_UNAVAILABLE) -> None:
        super().__init__(reason, message)


class StoreForbidden(StoreError):
    """Credentials are missing, wrong or not allowed to do this."""

    def __init__(self, message: str, reason: Reason = Reason.STORAGE_FORBIDDEN) -> None:
        super().__init__(reason, message)


@dataclass(frozen=True)
class ObjectInfo:
    """An object's facts. `sha256` (hex) only where Atoll wrote it; `etag` identifies the bytes in this store.

    `modified_at` (seconds since 1970, by the store's clock) is what `list` tells."""

    key: str
    size: int
    etag: str
    sha256: str | None = None
    modified_at: float | None = field(default=None, compare=False)


class Store(Protocol):
    """A bucket or folder. Every method may raise StoreUnavailable or StoreForbidden; retries lie inside."""

    @property
    def url(self) -> str:
        """How messages name the store: `s3://bucket/prefix` or a path; no credentials."""
        ...

    def head(self, key: str) -> ObjectInfo | None: ...

    def get(self, key: str, *, limit: int = SMALL_OBJECT) -> bytes:
        """The whole object. Raises ObjectNotFound, or IntegrityError past `limit` bytes."""
        ...

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        """Bytes and ETag, or None while the object still has `etag` (HTTP 304)."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        """Write a small object. With `if_absent` or `if_match` raises PreconditionFailed where it does not hold."""
        ...

    def upload(self, key: str, path: Path, *, transferred: Transferred | None = None) -> ObjectInfo:
        """Write a file of any size. Nothing is visible at `key` before all of it is there."""
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
        """Fetch to `path` (by a temporary file and rename), resumed after a break; the result has its sha256.

        Raises:
            ObjectNotFound; IntegrityError: other bytes than `sha256`, three times in a row;
            PreconditionFailed: the object is no longer the one with `etag`.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, in key order, however many."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        ...


WRITERS = 32
# A server that checks and then writes may pass once by luck.
ROUNDS = 3


def require_conditional_put(store: Store, *, namespace: str, model: str) -> None:
    """Let `WRITERS` put one key at once, `ROUNDS` times.

    Raises:
        StoreError: `StoreUnsuitable`, where not exactly one of them won, or another's bytes are there.
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
            raise StoreError(Reason.STORE_UNSUITABLE, _verdict(store, len(winners)))


def _verdict(store: Store, winners: int) -> str:
    told = "it was overwritten afterwards" if winners == 1 else f"{winners} were told that they had"
    return (
        f"{store.url} does not keep conditional writes: of {WRITERS} writers of a key exactly one may succeed, {told}; "
        "publish from a cluster, where the API server is the lock, or use another store"
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
