"""Files and folders that are taken for an archive: their name in the store, a tar of a folder, and likely names."""

import difflib
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from atoll_contract.archive.extract import Member, extract
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import SpecError
from atoll_contract.store.directory import INTERNAL

_MODE = 0o644


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


def did_you_mean(name: str, stored: Sequence[str] = ()) -> str:
    """`; did you mean my-export.tar?`, if a file or folder beside the missing file, or one of `stored`, has a name like
    its own; else an empty string."""
    folder, wanted = Path(name).parent, Path(name).name
    beside = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    by_name = {item.lower(): str(folder / item) for item in beside if not item.startswith(".")}
    by_name |= {item.lower(): item for item in stored}
    similar = difflib.get_close_matches(wanted.lower(), by_name, n=1)
    return f"; did you mean {by_name[similar[0]]}?" if similar else ""


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
        _pack(path, packed, DatasetLimits())
        yield packed


def _pack(folder: Path, target: Path, limits: DatasetLimits) -> None:
    """Writes everything in `folder` into the new tar `target`, under the limits of an archive.

    Raises:
        DatasetError: the folder is empty or over a limit, or holds a link, a special file or a name that is not safe.
    """
    with (
        tempfile.TemporaryDirectory(prefix="atoll-pack-") as scratch,
        extract(folder, Path(scratch) / "index", limits, name=str(folder)) as members,
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in members:
            with member.open() as file:
                archive.addfile(_header(member), file)


def _header(member: Member) -> tarfile.TarInfo:
    """A header without owner and time, which differ from machine to machine."""
    header = tarfile.TarInfo(member.name)
    header.size, header.mode = member.size, _MODE
    return header
