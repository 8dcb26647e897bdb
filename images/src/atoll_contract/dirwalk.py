"""The files of a folder in the order in which an object store lists their keys."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def walk(folder: Path, base: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below `folder` whose key (`base` and its path) begins with `prefix`, in the order of the keys' UTF-8
    bytes. Symbolic links are passed over; what vanishes meanwhile is left out."""
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
