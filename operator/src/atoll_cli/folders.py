"""Folders where an archive is taken: their name in the store, and a tar of them while it is needed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll_contract.archive.pack import pack_folder
from atoll_contract.errors import SpecError
from atoll_contract.stage import DatasetLimits
from atoll_contract.store.directory import INTERNAL


def stored_name(path: Path) -> str:
    """The file name in the store of an archive, or of the tar of a folder.

    Raises:
        SpecError: the folder is the root of the disk, or holds the store itself.
    """
    if not path.is_dir():
        return path.name
    for marker in (path / INTERNAL, *path.glob(f"*/{INTERNAL}")):
        if marker.is_dir():
            raise SpecError(
                f"{path} holds the store {marker.parent}; put pictures and labels into a folder of their own"
            )
    name = path.resolve().name
    if not name:
        raise SpecError(f"{path} is the whole disk; name the folder with the data set")
    return f"{name}.tar"


@contextmanager
def archive_file(path: Path) -> Iterator[Path]:
    """Provides the archive itself, or a temporary tar of the folder, under its name in the store.

    Raises:
        DatasetError: the folder cannot be packed.
    """
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="atoll-folder-") as scratch:
        packed = Path(scratch) / stored_name(path)
        pack_folder(path, packed, DatasetLimits())
        yield packed
