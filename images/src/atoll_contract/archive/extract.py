"""Safe extraction of an untrusted archive into numbered files and an index.

Nothing in an archive decides where bytes are written: members are stored under their numbers, so that no name, link
or order can lead out of the folder. Names, kinds, sizes, counts and ratios are checked before bytes are kept.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from atoll_contract.archive.limits import Entry, Meter, safe_name, shown
from atoll_contract.archive.members import Member, Members
from atoll_contract.archive.tar import TarStream
from atoll_contract.archive.zip import ZipReader
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import DatasetLimits

__all__ = ["ARCHIVE_SUFFIXES", "Member", "Members", "extract"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
# gzip reads this far ahead of what it has unpacked, which makes a member's ratio inexact.
_READ_AHEAD = 256 * 2**10


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


def extract(source: Path, folder: Path, limits: DatasetLimits, *, name: str | None = None) -> Members:
    """Extracts the archive `source` into `folder`, which is created, and returns its members.

    A folder as `source` is indexed where it is. `name` stands for `source.name` in messages and for the suffix.

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
                for entry in TarStream(file, meter).entries():
                    _keep(entry, members, meter)
            case _Kind.GZIP:
                _keep_gzip(file, members, meter)
            case _Kind.ZIP:
                for entry in ZipReader(file, length=length, meter=meter).entries():
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
    # Tar files before POSIX have no magic number; the checksum of their first header is checked when it is read.
    if head[257:262] == b"ustar" or (head and not any(head.startswith(magic) for magic in _OTHER_MAGIC)):
        return _Kind.TAR
    return None


def _keep_gzip(file: BinaryIO, members: Members, meter: Meter) -> None:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            stream = cast(BinaryIO, plain)
            for entry in TarStream(stream, meter).entries():
                start = file.tell()
                _keep(entry, members, meter)
                packed = file.tell() - start + _READ_AHEAD
                meter.ratio(entry.size, packed, name=_as_text(entry.raw_name))
            # gzip's checksum follows the last byte, so the rest of the stream is read and counted to its end.
            while piece := stream.read(2**16):
                meter.grow(len(piece), name="(after the last member)")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"unexpected end of archive or damaged gzip data after {meter.members} members ({error}); "
            "pack or upload it again",
        ) from None


def _keep(entry: Entry, members: Members, meter: Meter) -> None:
    meter.declare(_as_text(entry.raw_name), entry.size)
    if entry.packed is not None:
        meter.ratio(entry.size, entry.packed, name=_as_text(entry.raw_name))
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


def _as_text(raw_name: bytes) -> str:
    return raw_name.decode("utf-8", "replace")


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
