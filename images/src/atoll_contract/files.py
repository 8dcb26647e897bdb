"""Atomic and durable writing of files, hashing, locks, and walking a folder."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

BLOCK = 2**20


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Writes `path` atomically: the bytes are synced and renamed to `path` when the block succeeds; if it fails, `path`
    stays as it was."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
            sync(stream)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def copy_hashed(source: BinaryIO, target: BinaryIO, transferred: Callable[[int], None] | None = None) -> str:
    """Copies to the end of `source` and returns the hex sha256 of the copied bytes. `transferred` is called with the
    number of bytes of each block."""
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        target.write(block)
        digest.update(block)
        if transferred is not None:
            transferred(len(block))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """The hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(stream: BinaryIO) -> None:
    """Flushes to the disk and sets the modification time to the nanosecond: the kernel's own times are milliseconds
    coarse, and two writes of one file must differ in theirs."""
    stream.flush()
    now = time.time_ns()
    os.utime(stream.fileno() if os.utime in os.supports_fd else stream.name, ns=(now, now))
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the file names in `folder` durable."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path` against this and other processes. Creates the folder. No lock on Windows."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def walk(folder: Path, base: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yields every file below `folder` whose key (`base` and its path) begins with `prefix`, in the order of the keys'
    UTF-8 bytes. Skips symbolic links, and files that are deleted meanwhile."""
    for entry in _sorted(folder):
        key = base + entry.name
        if entry.is_dir(follow_symlinks=False):
            if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                yield from walk(Path(entry.path), f"{key}/", prefix)
        elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield key, entry.stat()


def _sorted(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            # A folder sorts as its keys do: with the slash that follows its name.
            return sorted(entries, key=lambda e: os.fsencode(e.name) + (b"/" if e.is_dir() else b""))
    except (FileNotFoundError, NotADirectoryError):
        return []
