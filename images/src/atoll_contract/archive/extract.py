"""Safe extraction of an untrusted archive into one file and an index.

Nothing in an archive decides where bytes are written: members lie one after the other in one file, so that no name,
link or order can lead out of the folder. Names, kinds, sizes, counts and ratios are checked before bytes are kept.

A plain tar is such a file already, and is only indexed.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from atoll_contract.archive.limits import Entry, Meter, is_litter, safe_name, shown, size
from atoll_contract.archive.members import Member, Members
from atoll_contract.archive.sniff import ARCHIVE_SUFFIXES, HEAD_BYTES, ArchiveKind, archive_kind, require_tar
from atoll_contract.archive.tar import TarStream
from atoll_contract.archive.zip import ZipReader
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError, Reason

__all__ = ["ARCHIVE_SUFFIXES", "Member", "Members", "extract"]

# gzip reads this far ahead of what it has unpacked, which makes a member's ratio inexact.
_READ_AHEAD = 256 * 2**10
# An archive beside more files than this is no mere wrapping.
_MAX_BESIDE = 20


def extract(source: Path, folder: Path, limits: DatasetLimits, *, name: str | None = None) -> Members:
    """Extracts the archive `source` into `folder`, which is created, and returns its members.

    A folder as `source` is indexed where it is, without litter; a tar, too, which must stay as long as its members are
    read (`Members.lie_in`). An archive that holds nothing but one archive, as
    file hosts pack a download, is read through, under the limits of both together. `name` stands for `source.name` in
    messages and for the suffix.

    Raises:
        DatasetError: DatasetUnsafe, DatasetTooLarge or DatasetMalformed, naming the member.
    """
    name = name or source.name
    with ExitStack() as opened:
        try:
            members = opened.enter_context(Members(folder))
            if source.is_dir():
                _index_folder(source, members, Meter(limits, 0))
            else:
                meter = Meter(limits, source.stat().st_size)
                with source.open("rb") as file:
                    _extract_source(file, source, members, meter, name)
                if (inner := _only_archive(members)) is not None:
                    outer, members = members, opened.enter_context(_open_inner(members))
                    _extract_inner(inner, members, meter)
                    outer.close()
                    outer.drop_bytes()
            if len(members) == 0:
                raise DatasetError(Reason.DATASET_MALFORMED, "it is empty; it holds no file")
        except DatasetError as error:
            raise DatasetError(error.reason, f"{name}: {error.message}") from None
        # What is returned stays open; the caller closes it.
        opened.pop_all()
    return members


def _only_archive(members: Members) -> Member | None:
    """The one archive of an archive that holds nothing else but litter."""
    found = [member for member in islice(members, _MAX_BESIDE) if not is_litter(member.name)]
    alone = len(found) == 1 and len(members) < _MAX_BESIDE
    return found[0] if alone and found[0].base.lower().endswith(ARCHIVE_SUFFIXES) else None


def _open_inner(outer: Members) -> Members:
    members = Members(outer.folder / "inner")
    members.notes += outer.notes
    return members


def _extract_inner(inner: Member, members: Members, meter: Meter) -> None:
    try:
        with inner.open() as file:
            _extract_file(file, inner.size, members, meter, inner.base)
    except DatasetError as error:
        raise DatasetError(error.reason, f"{shown(inner.name)} in it: {error.message}") from None


def _extract_source(file: BinaryIO, source: Path, members: Members, meter: Meter, name: str) -> None:
    length = meter.archive_bytes
    is_tar = length > 0 and archive_kind(file.read(HEAD_BYTES), name) is ArchiveKind.TAR
    # SQLite's texts are UTF-8, which the path of a user's file need not be.
    if is_tar and os.fsencode(source).decode("utf-8", "ignore") == str(source):
        file.seek(0)
        _index_tar(file, source, members, meter)
    else:
        _extract_file(file, length, members, meter, name)


def _index_tar(file: BinaryIO, source: Path, members: Members, meter: Meter) -> None:
    members.lie_in(source)
    stream = TarStream(file, meter)
    for entry in stream.entries():
        if name := _checked_name(entry, meter):
            members.claim(entry.number, name, offset=entry.start, size=entry.size)
            stream.skip(entry.size, length=meter.archive_bytes)
            meter.grow(entry.size, name=name)
    _note_trailing(stream, members)


def _extract_file(file: BinaryIO, length: int, members: Members, meter: Meter, name: str) -> None:
    if length == 0:
        raise DatasetError(Reason.DATASET_MALFORMED, "it is empty (0 bytes)")
    file.seek(0)
    kind = archive_kind(file.read(HEAD_BYTES), name)
    file.seek(0)
    match kind:
        case ArchiveKind.TAR:
            stream = TarStream(file, meter)
            for entry in stream.entries():
                _keep(entry, members, meter)
            _note_trailing(stream, members)
        case ArchiveKind.GZIP:
            _keep_gzip(file, members, meter)
        case ArchiveKind.ZIP:
            for entry in ZipReader(file, length=length, meter=meter).entries():
                _keep(entry, members, meter)
    members.flush()


def _note_trailing(stream: TarStream, members: Members) -> None:
    if stream.trailing_bytes:
        members.notes.append(f"{size(stream.trailing_bytes)} behind the end of the tar are no tar and were not read")


def _keep_gzip(file: BinaryIO, members: Members, meter: Meter) -> None:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            require_tar(plain.peek(HEAD_BYTES)[:HEAD_BYTES])
            stream = TarStream(cast(BinaryIO, plain), meter)
            for entry in stream.entries():
                start = file.tell()
                _keep(entry, members, meter)
                packed = file.tell() - start + _READ_AHEAD
                meter.ratio(entry.size, packed, name=_as_text(entry.raw_name))
        # The stream was read to its end, so that gzip's checksum behind the last byte is compared.
        _note_trailing(stream, members)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"unexpected end of archive or damaged gzip data after {meter.members} members ({error}); "
            "pack or upload it again",
        ) from None


def _checked_name(entry: Entry, meter: Meter) -> str:
    """Returns the path inside the archive of an entry that may be kept; nothing for a folder."""
    meter.declare(_as_text(entry.raw_name), entry.size)
    if entry.packed is not None:
        meter.ratio(entry.size, entry.packed, name=_as_text(entry.raw_name))
    name = safe_name(entry.raw_name, number=entry.number, limits=meter.limits)
    if entry.raw_name.endswith(b"/") or not name:
        for _ in entry.pieces:
            raise DatasetError(Reason.DATASET_MALFORMED, f"member {entry.number} {shown(name)}: a folder with bytes")
        return ""
    return name


def _keep(entry: Entry, members: Members, meter: Meter) -> None:
    if not (name := _checked_name(entry, meter)):
        return
    members.claim(entry.number, name)
    written = 0
    for piece in entry.pieces:
        meter.grow(len(piece), name=name)
        members.write(piece)
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
        if is_litter(name):
            continue
        if not stat.S_ISREG(status.st_mode):
            what = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
            raise DatasetError(
                Reason.DATASET_UNSAFE,
                f"member {number} {shown(name)}: {what}; only regular files and folders are taken, and no link is "
                "followed: put the file itself there",
            )
        meter.declare(name, status.st_size)
        members.claim(number, name, path=Path(os.fsdecode(path)), size=status.st_size)


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
