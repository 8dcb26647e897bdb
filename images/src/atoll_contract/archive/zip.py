"""Reading a zip file: stored and deflated members, ZIP64; regular files and folders only.

Own code because `zipfile` builds its whole directory in memory before a caller can count it. Format:
PKWARE APPNOTE 6.3, sections 4.3 to 4.6 and appendix D.
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
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_STORED, _DEFLATED = 0, 8
_OTHER_METHODS = {
    1: "Shrink, of old DOS tools",
    6: "Implode, of old DOS tools",
    9: "Deflate64, which the Windows Explorer takes for large files",
    12: "bzip2",
    14: "LZMA",
    20: "Zstandard",
    93: "Zstandard",
    94: "MP3",
    95: "XZ",
    96: "WinZip's JPEG",
    97: "WavPack",
    98: "PPMd",
    99: "AES, behind a password",
}
_UNIX = 3
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENTRY, _MEMBER, _END_RECORD = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


@dataclass(frozen=True)
class _Directory:
    """The directory from `start` to `end`; `entries` is what the end record counts."""

    entries: int
    start: int
    end: int


class ZipReader:
    """The entries of a seekable zip `file` of `length` bytes, in the order of its directory.

    The directory itself says which entries there are. The count and offset of the end record have 16 and 32 bits, and
    macOS lets them wrap instead of writing ZIP64.
    """

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
        offset, found = directory.start, 0
        while offset < directory.end and self._at(offset, 4) == _ENTRY:
            found, number = found + 1, self._meter.next_member()
            fixed = _CENTRAL.unpack(self._at(offset, _CENTRAL.size))
            sizes = fixed[10:13]
            self._meter.header(sum(sizes))
            body = self._at(offset + _CENTRAL.size, sum(sizes))
            offset += _CENTRAL.size + sum(sizes)
            yield self._entry(number, fixed, body)
        if self._trailer_end(offset, directory.end) != directory.end:
            raise self._malformed("damaged directory")
        if found < directory.entries:
            raise self._malformed(f"its directory has {found} of {directory.entries} members")

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
            name = _OTHER_METHODS.get(method, "unknown")
            raise DatasetError(
                Reason.DATASET_MALFORMED,
                f"{where} is packed with method {method} ({name}); allowed are stored (0) and Deflate (8): pack it "
                "with 7-Zip as zip with the method Deflate, or as .tar",
            )
        start = self._data_start(header, raw_name)
        inflated = self._stored(start, packed) if method == _STORED else self._inflated(start, packed, size)
        pieces = self._checked(inflated, size=size, crc=crc, where=where)
        return Entry(number, _utf8_name(raw_name, flags, extra), size, pieces, packed)

    def _data_start(self, header: int, raw_name: bytes) -> int:
        # Behind 4 GiB an offset without ZIP64 has wrapped; the member's own header tells how often.
        offsets = range(header, max(header + 1, self._length), 2**32)
        starts = [at for at in offsets if self._peek(at, len(_MEMBER)) == _MEMBER]
        for start in starts:
            local = _LOCAL.unpack(self._at(start, _LOCAL.size))
            self._meter.header(local[9] + local[10])
            if self._at(start + _LOCAL.size, local[9]) == raw_name:
                return start + _LOCAL.size + int(local[9]) + int(local[10])
        if starts:
            raise self._malformed(f"member {shown(raw_name)} has another name in its own header")
        raise self._malformed("no member where the directory says so")

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

    def _peek(self, offset: int, count: int) -> bytes:
        """At most `count` bytes at `offset`."""
        self._file.seek(min(offset, self._length))
        return self._file.read(count)

    def _at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset`."""
        data = self._peek(offset, count)
        if len(data) < count:
            raise self._malformed("unexpected end of archive")
        return data

    def _directory(self) -> _Directory:
        tail_start = max(0, self._length - _END.size - _FULL16)
        tail = self._at(tail_start, self._length - tail_start)
        found = tail.rfind(_END_RECORD)
        if found < 0 or len(tail) - found < _END.size:
            raise self._malformed("unexpected end of archive: it has no directory")
        fields = _END.unpack_from(tail, found)
        if fields[1] not in (0, _FULL16):
            raise self._malformed(f"it is part {fields[1] + 1} of a zip in several files, which must be one")
        entries, size, offset, end = fields[4], fields[5], fields[6], tail_start + found
        if entries == _FULL16 or _FULL32 in (size, offset):
            entries, size, offset, end = self._directory64(end, (entries, size, offset))
        if offset + size > end:
            raise self._malformed("the directory lies outside the archive")
        wrapped = (end - size - offset) // 2**32 * 2**32
        start = offset + wrapped
        if start + size < end and self._peek(end - size, len(_ENTRY)) == _ENTRY:
            raise self._malformed(
                f"its directory is at byte {end - size}, not {start}, as where two zips were joined: give each alone,"
            )
        return _Directory(entries=entries, start=start, end=end)

    def _trailer_end(self, offset: int, end: int) -> int:
        """Where the records end that may follow the last entry of the directory: a signature or ZIP64's."""
        signature = self._peek(offset, 4)
        if signature == b"PK\x05\x05":
            return offset + 6 + int.from_bytes(self._at(offset + 4, 2), "little")
        if signature == b"PK\x06\x06" and offset < end:
            return offset + 12 + int.from_bytes(self._at(offset + 4, 8), "little") + _LOCATOR64.size
        return offset

    def _directory64(self, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Entries, size, offset and end of the directory from the ZIP64 records before `end`, where they are there."""
        if end < _LOCATOR64.size:
            return *plain, end
        locator = _LOCATOR64.unpack(self._at(end - _LOCATOR64.size, _LOCATOR64.size))
        if locator[0] != b"PK\x06\x07":
            return *plain, end
        end64 = _END64.unpack(self._at(locator[2], _END64.size))
        if end64[0] != b"PK\x06\x06":
            raise self._malformed("damaged ZIP64 directory")
        return end64[7], end64[8], end64[9], locator[2]

    def _malformed(self, what: str) -> DatasetError:
        return DatasetError(
            Reason.DATASET_MALFORMED,
            f"{what} after {max(0, self._meter.members - 1)} members; pack or upload it again",
        )


def _wide(fixed: tuple[int, ...], extra: bytes) -> tuple[int, int, int]:
    """Packed size, size and header offset, from the ZIP64 field where the plain ones are full."""
    packed, size, header = fixed[8], fixed[9], fixed[16]
    wide = _extra_field(extra, _ZIP64)
    values = iter(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
    size = next(values, size) if size == _FULL32 else size
    packed = next(values, packed) if packed == _FULL32 else packed
    header = next(values, header) if header == _FULL32 else header
    return packed, size, header


def _refuse_kind(where: str, *, system: int, attributes: int) -> None:
    kind = stat.S_IFMT(attributes >> 16) if system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "symbolic link" if kind == stat.S_IFLNK else "special file"
        raise DatasetError(Reason.DATASET_UNSAFE, f"{where}: {what}; only regular files and folders are taken")


def _utf8_name(raw_name: bytes, flags: int, extra: bytes) -> bytes:
    """The name in UTF-8, with `/` between its parts.

    Without the UTF-8 flag it is the Unicode path of the extra fields, else the name itself where that is valid UTF-8
    (Linux and macOS pack so, without the flag), else the name in code page 437, as the Windows Explorer packs it. A
    backslash separates folders, as .NET and PowerShell pack them; a path that leads outside is refused by `safe_name`.
    """
    return _decoded_name(raw_name, flags, extra).replace(b"\\", b"/")


def _decoded_name(raw_name: bytes, flags: int, extra: bytes) -> bytes:
    if flags & _UTF8:
        return raw_name
    field = _extra_field(extra, _UNICODE_PATH)
    # The field is out of date where a tool without knowledge of it has renamed the member.
    if len(field) > 5 and field[0] == 1 and struct.unpack_from("<L", field, 1)[0] == zlib.crc32(raw_name):
        return field[5:]
    try:
        raw_name.decode("utf-8")
    except UnicodeDecodeError:
        return raw_name.decode("cp437").encode("utf-8")
    return raw_name


def _extra_field(extra: bytes, wanted: int) -> bytes:
    """The content of the extra field of this kind; empty without one."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""
