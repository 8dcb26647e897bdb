"""Reading a zip file: stored and deflated members, ZIP64; regular files and folders only.

Own code because `zipfile` builds its whole directory in memory before a caller can count it. Format:
PKWARE APPNOTE 6.3, sections 4.3 to 4.5.
"""

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from atoll_contract.archive.limits import PIECE, Entry, Meter, shown
from atoll_contract.errors import DatasetError, Reason

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED, _UTF8 = 0x1, 0x800
_STORED, _DEFLATED = 0, 8
_UNIX = 3
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class _Directory:
    entries: int
    offset: int
    size: int


class ZipReader:
    """The entries of a seekable zip `file` of `length` bytes, in the order of its directory."""

    def __init__(self, file: BinaryIO, *, length: int, meter: Meter) -> None:
        self._file = file
        self._length = length
        self._meter = meter

    def entries(self) -> Iterator[Entry]:
        """Regular files and folders in order.

        Raises:
            DatasetError: damaged or truncated, encrypted, over a limit, or a member of another kind.
        """
        directory = self._directory()
        if directory.entries > self._meter.limits.members:
            raise DatasetError(
                Reason.DATASET_TOO_LARGE,
                f"more than {self._meter.limits.members} members (the archive has {directory.entries})",
            )
        offset = directory.offset
        for _ in range(directory.entries):
            number = self._meter.next_member()
            fixed = _CENTRAL.unpack(self._at(offset, _CENTRAL.size))
            if fixed[0] != b"PK\x01\x02":
                raise self._malformed("damaged directory")
            sizes = fixed[10:13]
            self._meter.header(sum(sizes))
            body = self._at(offset + _CENTRAL.size, sum(sizes))
            offset += _CENTRAL.size + sum(sizes)
            yield self._entry(number, fixed, body)

    def _entry(self, number: int, fixed: tuple[int, ...], body: bytes) -> Entry:
        made_by, flags, method, crc = fixed[1], fixed[3], fixed[4], fixed[7]
        name_end = fixed[10]
        raw_name, extra = body[:name_end], body[name_end : name_end + fixed[11]]
        packed, size, header = _wide(fixed, extra)
        where = f"member {number} {shown(raw_name)}"
        _refuse_kind(where, system=made_by >> 8, attributes=fixed[15])
        if flags & _ENCRYPTED:
            raise DatasetError(Reason.DATASET_MALFORMED, f"{where} is encrypted; pack without a password")
        if method not in (_STORED, _DEFLATED):
            raise DatasetError(
                Reason.DATASET_MALFORMED,
                f"{where} is packed with method {method}; allowed are stored (0) and deflate (8)",
            )
        start = self._data_start(header, raw_name)
        inflated = self._stored(start, packed) if method == _STORED else self._inflated(start, packed, size)
        pieces = self._checked(inflated, size=size, crc=crc, where=where)
        return Entry(number, _slashed(raw_name, flags, made_by >> 8), size, pieces, packed)

    def _data_start(self, header: int, raw_name: bytes) -> int:
        local = _LOCAL.unpack(self._at(header, _LOCAL.size))
        if local[0] != b"PK\x03\x04":
            raise self._malformed("no member where the directory says so")
        self._meter.header(local[9] + local[10])
        if self._at(header + _LOCAL.size, local[9]) != raw_name:
            raise self._malformed(f"member {shown(raw_name)} has another name in its own header")
        start: int = header + _LOCAL.size + local[9] + local[10]
        return start

    def _stored(self, start: int, packed: int) -> Iterator[bytes]:
        while packed:
            piece = self._at(start, min(PIECE, packed))
            start, packed = start + len(piece), packed - len(piece)
            yield piece

    def _inflated(self, start: int, packed: int, size: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        rest = size + 1
        for piece in self._stored(start, packed):
            waiting = piece
            while waiting and not inflater.eof and rest > 0:
                try:
                    data = inflater.decompress(waiting, min(PIECE, rest))
                except zlib.error as error:
                    raise self._malformed(f"damaged data ({error})") from None
                waiting, rest = inflater.unconsumed_tail, rest - len(data)
                yield data
        if not inflater.eof and rest > 0:
            yield inflater.flush()

    def _checked(self, pieces: Iterator[bytes], *, size: int, crc: int, where: str) -> Iterator[bytes]:
        seen, check = 0, 0
        for piece in pieces:
            seen, check = seen + len(piece), zlib.crc32(piece, check)
            if seen > size:
                raise self._malformed(f"{where} expands past the {size} bytes it claims")
            yield piece
        if seen < size:
            raise self._malformed(f"{where} ends after {seen} of {size} bytes")
        if check != crc:
            raise self._malformed(f"{where} has a wrong CRC")

    def _at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`."""
        self._file.seek(min(offset, self._length))
        data = self._file.read(count)
        if len(data) < count:
            raise self._malformed("unexpected end of archive")
        return data

    def _directory(self) -> _Directory:
        tail_start = max(0, self._length - _END.size - _FULL16)
        tail = self._at(tail_start, self._length - tail_start)
        found = tail.rfind(b"PK\x05\x06")
        if found < 0 or len(tail) - found < _END.size:
            raise self._malformed("unexpected end of archive: it has no directory")
        end = _END.unpack_from(tail, found)
        entries, size, offset = end[4], end[5], end[6]
        if _FULL16 in (entries,) or _FULL32 in (size, offset):
            entries, size, offset = self._directory64(tail_start + found, (entries, size, offset))
        if offset + size > tail_start + found:
            raise self._malformed("the directory lies outside the archive")
        return _Directory(entries=entries, offset=offset, size=size)

    def _directory64(self, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int]:
        if end < _LOCATOR64.size:
            return plain
        locator = _LOCATOR64.unpack(self._at(end - _LOCATOR64.size, _LOCATOR64.size))
        if locator[0] != b"PK\x06\x07":
            return plain
        end64 = _END64.unpack(self._at(locator[2], _END64.size))
        if end64[0] != b"PK\x06\x06":
            raise self._malformed("damaged ZIP64 directory")
        return end64[7], end64[8], end64[9]

    def _malformed(self, what: str) -> DatasetError:
        return DatasetError(
            Reason.DATASET_MALFORMED,
            f"{what} after {max(0, self._meter.members - 1)} members; pack or upload it again",
        )


def _wide(fixed: tuple[int, ...], extra: bytes) -> tuple[int, int, int]:
    """Packed size, size and header offset, from the ZIP64 field where the plain ones are full."""
    packed, size, header = fixed[8], fixed[9], fixed[16]
    wide = _extra_field(extra, 0x0001)
    values = iter(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
    size = next(values, size) if size == _FULL32 else size
    packed = next(values, packed) if packed == _FULL32 else packed
    header = next(values, header) if header == _FULL32 else header
    return packed, size, header


def _extra_field(extra: bytes, wanted: int) -> bytes:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _refuse_kind(where: str, *, system: int, attributes: int) -> None:
    kind = stat.S_IFMT(attributes >> 16) if system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "symbolic link" if kind == stat.S_IFLNK else "special file"
        raise DatasetError(Reason.DATASET_UNSAFE, f"{where}: {what}; only regular files and folders are taken")


def _slashed(raw_name: bytes, flags: int, system: int) -> bytes:
    """The name with `/` between its parts: archives made on Windows may have backslashes (PowerShell before
    .NET 4.6.1). In others a backslash is kept, and refused later."""
    return raw_name.replace(b"\\", b"/") if system != _UNIX and not flags & _UTF8 else raw_name
