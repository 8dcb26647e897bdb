"""A store in a folder, for the embedded engine and for a Pi without a bucket.

Every write goes to a temporary file that is synced and then moved by one `link` or `rename`, so that a reader sees a
complete object or none, even if the writer is killed. `if_absent` is a `link`, which is atomic between processes;
`if_match`, plain writes and deletions of a key are serialised by a file lock.
"""

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.files import copy_hashed, file_lock, sync, sync_folder, walk, written_whole
from atoll_contract.store.base import (
    SMALL_OBJECT,
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreForbidden,
    StoreUnavailable,
    Transferred,
)
from atoll_contract.store_spec import StoreSpec

# The folder of the store's locks and unfinished writes; no key begins with it.
INTERNAL = ".atoll"
STALE_AFTER_SECONDS = 24 * 3600
# Another process that deletes the last object of a folder may remove the folder before the rename into it.
RENAME_ATTEMPTS = 20

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
_NO_KEY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EINVAL})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DirStore:
    """A folder as a store. Keys are paths below it; `.`, `..`, empty parts and links that lead out raise SpecError."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root.expanduser()))  # noqa: PTH100 (resolve() would hide a moved link)
        self._temporary = self._root / INTERNAL / "tmp"

    @classmethod
    def from_spec(cls, spec: StoreSpec) -> "DirStore":
        """The folder that `spec` names; the first write creates it.

        Raises:
            SpecError: the spec names no folder.
        """
        if not spec.path:
            raise SpecError("a store of type directory needs `path`, the folder that holds its objects")
        store = cls(Path(spec.path) / spec.prefix if spec.prefix else Path(spec.path))
        store.remove_stale()
        return store

    @property
    def url(self) -> str:
        return str(self._root)

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with self._translated("read", key), suppress(FileNotFoundError):
            return _info(key, path.stat()) if path.is_file() else None
        return None

    def get(self, key: str, *, limit: int = SMALL_OBJECT) -> bytes:
        with self._open(key) as (stream, _):
            return self._bounded(key, stream, limit)

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        with self._open(key) as (stream, info):
            return None if info.etag == etag else (self._bounded(key, stream, SMALL_OBJECT), info.etag)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        path = self._path(key)
        with self._translated("write", key), self._temporary_file() as (stream, temporary):
            stream.write(data)
            sync(stream)
            with self._locked(key):
                self._require_match(key, path, if_match)
                self._commit(temporary, path, if_absent=if_absent)
            return _info(key, os.fstat(stream.fileno()), hashlib.sha256(data).hexdigest())

    def upload(self, key: str, path: Path, *, transferred: Transferred | None = None) -> ObjectInfo:
        target = self._path(key)
        with path.open("rb") as source, self._translated("write", key), self._temporary_file() as (stream, temporary):
            digest = copy_hashed(source, stream, transferred)
            sync(stream)
            with self._locked(key):
                self._commit(temporary, target)
            return _info(key, os.fstat(stream.fileno()), digest)

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        etag: str | None = None,
        transferred: Transferred | None = None,
    ) -> ObjectInfo:
        with self._open(key) as (source, info), written_whole(path) as stream:
            self._require_etag(key, info, etag)
            digest = copy_hashed(source, stream, transferred)
            self._require_etag(key, _info(key, os.fstat(source.fileno())), info.etag)
            if sha256 is not None and digest != sha256:
                raise IntegrityError(f"{self.url}: {key} has sha256 {digest}, expected {sha256}")
        return ObjectInfo(key, info.size, info.etag, digest)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        with self._translated("list", prefix):
            for key, status in walk(start, f"{folder}/" if folder else "", prefix):
                if not key.startswith(f"{INTERNAL}/"):
                    yield _info(key, status)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated("delete", key), self._locked(key):
            path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == self._root or not _removed_if_empty(parent):
                    break

    def remove_stale(self, *, older_than: float = STALE_AFTER_SECONDS) -> None:
        """Removes temporary files of killed writers that are older than `older_than` seconds."""
        with suppress(OSError):
            for path in self._temporary.iterdir():
                if time.time() - path.stat().st_mtime > older_than:
                    path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if parts[0] == INTERNAL or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise SpecError(
                f"{self.url}: {key!r} is no key of a folder store; no part may be empty, '.' or '..', "
                f"and the first may not be {INTERNAL!r}"
            )
        path = self._root.joinpath(*parts)
        with self._translated("resolve", key):
            inside = path.resolve().is_relative_to(self._root.resolve())
        if not inside:
            raise SpecError(f"{self.url}: {key!r} leads out of the folder by a symbolic link")
        return path

    @contextmanager
    def _open(self, key: str) -> Iterator[tuple[BinaryIO, ObjectInfo]]:
        path = self._path(key)
        with self._translated("read", key):
            try:
                stream = path.open("rb")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise ObjectNotFound(f"{self.url}: there is no object {key!r}") from None
            with stream:
                yield stream, _info(key, os.fstat(stream.fileno()))

    @contextmanager
    def _temporary_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        self._temporary.mkdir(parents=True, exist_ok=True)
        path = self._temporary / secrets.token_hex(16)
        try:
            with path.open("xb") as stream:
                yield stream, path
        finally:
            path.unlink(missing_ok=True)

    def _commit(self, temporary: Path, path: Path, *, if_absent: bool = False) -> None:
        """Moves the finished file to `path`; the caller holds the lock of the key."""
        for attempt in range(RENAME_ATTEMPTS):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._link(temporary, path) if if_absent else temporary.replace(path)
                break
            except FileNotFoundError:
                if attempt == RENAME_ATTEMPTS - 1:
                    raise
        sync_folder(path.parent)

    def _link(self, temporary: Path, path: Path) -> None:
        try:
            path.hardlink_to(temporary)
        except OSError as error:
            if error.errno != errno.EEXIST and error.errno not in _NO_LINKS:
                raise
            # FAT and some mounts have no hard links; there the caller's lock alone has to do.
            if not path.exists():
                temporary.replace(path)
                return
        else:
            return
        raise PreconditionFailed(f"{self.url}: the key is taken: {path.relative_to(self._root).as_posix()}")

    def _bounded(self, key: str, stream: BinaryIO, limit: int) -> bytes:
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(f"{self.url}: {key} is larger than {limit} bytes, the most that is read at once")
        return data

    def _locked(self, key: str) -> AbstractContextManager[None]:
        """Excludes other writers of `key`, in this and in other processes."""
        return file_lock(self._root / INTERNAL / "locks" / hashlib.sha256(key.encode()).hexdigest()[:2])

    def _require_match(self, key: str, path: Path, etag: str | None) -> None:
        if etag is None:
            return
        try:
            found = _info(key, path.stat())
        except FileNotFoundError:
            raise PreconditionFailed(f"{self.url}: {key} is gone; it was to be replaced") from None
        self._require_etag(key, found, etag)

    def _require_etag(self, key: str, info: ObjectInfo, etag: str | None) -> None:
        if etag is not None and info.etag != etag:
            raise PreconditionFailed(f"{self.url}: {key} has changed: ETag {info.etag}, expected {etag}")

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"{self.url}: cannot {action} {key!r}: {error.strerror or type(error).__name__}"
            if error.errno in _FULL:
                raise StoreError(Reason.EPHEMERAL_STORAGE_EXCEEDED, f"{text}; free some space") from error
            if error.errno in _NO_KEY:
                raise SpecError(f"{text}; a folder store cannot hold this key beside its other keys") from error
            if error.errno in _REFUSED:
                raise StoreForbidden(f"{text}; check the owner and mode of the folder") from error
            raise StoreUnavailable(text) from error


def _info(key: str, status: os.stat_result, sha256: str | None = None) -> ObjectInfo:
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    return ObjectInfo(key, status.st_size, etag, sha256, status.st_mtime)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
