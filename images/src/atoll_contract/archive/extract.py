"""Safe extraction: an archive from a stranger becomes numbered files and an index, or a clear refusal.

Nothing of an archive decides where bytes go: members are stored under their number, so that no name, link or
order can lead outside the folder. Names, kinds, sizes, counts and ratios are checked before bytes are kept.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from atoll_contract.archive.limits import Meter, safe_name, shown
from atoll_contract.archive.members import Member, Members
from atoll_contract.archive.tar import TarStream
from atoll_contract.archive.zip import ZipReader
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import DatasetLimits

__all__ = ["ARCHIVE_SUFFIXES", "Member", "Members", "extract"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
# A reader between us and the packed file looks this far ahead; a member's ratio is blurred by it.
_LOOK_AHEAD = 256 * 2**10


class _Kind(StrEnum):
    TAR = "tar"
    GZIP = "gzip"
    ZIP = "zip"


_KIND_OF_SUFFIX = {".tar": _Kind.TAR, ".tar.gz": _Kind.GZIP, ".tgz": _Kind.GZIP, ".zip": _Kind.ZIP}
_OTHER_MAGIC = {
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}


class _Entry(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def raw_name(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def pieces(self) -> Iterator[bytes]: ...


def extract(source: Path, folder: Path, limits: DatasetLimits, *, name: str | None = None) -> Members:
    """The members of the archive or folder `source`; `folder` is created and takes everything written.

    `name` is what messages and the suffix check go by, where `source` has another one. A plain folder is
    indexed where it lies.

    Raises:
        DatasetError: DatasetUnsafe, DatasetTooLarge or DatasetMalformed, naming the member.
    """
    name = name or source.name
    try:
        members = Members(folder)
        if source.is_dir():
            _index_folder(source, members, Meter(limits, 0))
        else:
            _extract_file(source, members, limits, name)
        if len(members) == 0:
            raise DatasetError(Reason.DATASET_MALFORMED, "it is empty; it holds no file")
    except DatasetError as error:
        raise DatasetError(error.reason, f"{name}: {error.message}") from None
    return members


def _extract_file(source: Path, members: Members, limits: DatasetLimits, name: str) -> None:
    length = source.stat().st_size
    meter = Meter(limits, length)
    with source.open("rb") as file:
        match _kind(file, name, length):
            case _Kind.TAR:
                _keep_tar(file, members, meter)
            case _Kind.GZIP:
                _keep_gzip(file, members, meter)
            case _Kind.ZIP:
                for entry in ZipReader(file, length=length, meter=meter).entries():
                    meter.declare(entry.raw_name.decode("utf-8", "replace"), entry.size)
                    meter.ratio(entry.size, entry.packed, name=entry.raw_name.decode("utf-8", "replace"))
                    _keep(entry, members, meter)


def _kind(file: BinaryIO, name: str, length: int) -> _Kind:
    """The kind by the name's suffix, if the first bytes agree."""
    by_name = next((kind for suffix, kind in _KIND_OF_SUFFIX.items() if name.lower().endswith(suffix)), None)
    head = file.read(512)
    file.seek(0)
    if length == 0:
        raise DatasetError(Reason.DATASET_MALFORMED, "it is empty (0 bytes)")
    by_magic = _kind_of_head(head)
    if by_name is None or by_magic is None or by_name is not by_magic:
        is_what = by_magic or next(
            (kind for magic, kind in _OTHER_MAGIC.items() if head.startswith(magic)), "no archive"
        )
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"its content is {is_what}, first bytes {shown(head[:8])}; allowed are "
            f"{', '.join(ARCHIVE_SUFFIXES)}, each under its own suffix",
        )
    return by_name


def _kind_of_head(head: bytes) -> _Kind | None:
    if head.startswith(b"\x1f\x8b"):
        return _Kind.GZIP
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _Kind.ZIP
    # Tars before POSIX have no magic; their first header's checksum is looked at when it is read.
    if head[257:262] == b"ustar" or (head and not any(head.startswith(magic) for magic in _OTHER_MAGIC)):
        return _Kind.TAR
    return None


def _keep_tar(file: BinaryIO, members: Members, meter: Meter) -> None:
    for entry in TarStream(file, meter).entries():
        meter.declare(entry.raw_name.decode("utf-8", "replace"), entry.size)
        _keep(entry, members, meter)


def _keep_gzip(file: BinaryIO, members: Members, meter: Meter) -> None:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            stream = cast(BinaryIO, plain)
            for entry in TarStream(stream, meter).entries():
                name = entry.raw_name.decode("utf-8", "replace")
                meter.declare(name, entry.size)
                start = file.tell()
                _keep(entry, members, meter)
                meter.ratio(entry.size, file.tell() - start + _LOOK_AHEAD, name=name)
            # The checksum stands behind the last byte: what follows the tar is read, and metered, to its end.
            while piece := stream.read(2**16):
                meter.grow(len(piece), name="(after the last member)")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"unexpected end of archive or damaged gzip data after {meter.members} members ({error}); "
            "pack or upload it again",
        ) from None


def _keep(entry: _Entry, members: Members, meter: Meter) -> None:
    name = safe_name(entry.raw_name, number=entry.number, limits=meter.limits)
    if entry.raw_name.endswith(b"/") or not name:
        for _ in entry.pieces:
            raise DatasetError(Reason.DATASET_MALFORMED, f"member {entry.number} {shown(name)}: a folder with bytes")
        return
    members.claim(entry.number, name)
    written = 0
    with members.new_file(entry.number).open("xb") as file:
        for piece in entry.pieces:
            meter.grow(len(piece), name=name)
            file.write(piece)
            written += len(piece)
    members.set_size(entry.number, written)


def _index_folder(source: Path, members: Members, meter: Meter) -> None:
    root = os.fsencode(source)
    for path, status in _walk(root):
        number = meter.next_member()
        raw_name = path[len(root.rstrip(b"/")) + 1 :]
        name = safe_name(raw_name, number=number, limits=meter.limits)
        if not stat.S_ISREG(status.st_mode):
            what = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
            raise DatasetError(
                Reason.DATASET_UNSAFE,
                f"member {number} {shown(name)}: {what}; only regular files and folders are taken",
            )
        meter.declare(name, status.st_size)
        members.claim(number, name, path=Path(os.fsdecode(path)))
        members.set_size(number, status.st_size)


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below `root` but folders, links not followed."""
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        folders += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.path, entry.stat(follow_symlinks=False)
