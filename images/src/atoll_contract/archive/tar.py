"""Reading a tar stream: ustar, GNU long names and PAX headers; regular files and folders only.

Own code because `tarfile` reads a PAX header of any size into memory before a caller sees it, and offers
links, devices and sparse files that a dataset never needs. Format: POSIX.1-2024 `pax`, GNU tar manual
"Basic Tar Format".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from atoll_contract.archive.limits import PIECE, Entry, Meter, shown
from atoll_contract.errors import DatasetError, Reason

BLOCK = 512
_REFUSED = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"6": "FIFO",
    b"S": "sparse file",
    b"M": "continued from another volume",
}
_REGULAR = (b"0", b"\0", b"7")


@dataclass
class _Pending:
    """What extended headers say about the next member."""

    name: bytes | None = None
    size: int | None = None
    header_bytes: int = 0


class TarStream:
    """Reads the entries of a tar `stream` in one pass; holds one piece in memory."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._offset = 0
        # Bytes behind the end mark that are no further tar.
        self.trailing_bytes = 0

    def entries(self) -> Iterator[Entry]:
        """Regular files in order, also those of further tars behind the end mark, as `cat` joins them.

        Raises:
            DatasetError: damaged or truncated, over a limit, or a member that is no regular file or folder.
        """
        pending = _Pending()
        while (block := self._block()) is not None:
            kind, size = block[156:157], self._number(block[124:136])
            if kind in (b"x", b"g", b"L", b"K"):
                self._extended(kind, size, pending)
                continue
            number = self._meter.next_member()
            raw_name = pending.name if pending.name is not None else _name(block)
            if kind == b"V":
                size = 0
            elif kind == b"5" or (kind == b"\0" and raw_name.endswith(b"/")):
                yield Entry(number, raw_name.rstrip(b"/") + b"/", 0, iter(()))
                size = 0
            elif kind in _REGULAR:
                size = pending.size if pending.size is not None else size
                yield Entry(number, raw_name, size, self._data(size), start=self._offset)
            else:
                what = _REFUSED.get(kind, f"member type {kind!r}")
                raise DatasetError(
                    Reason.DATASET_UNSAFE,
                    f"member {number} {shown(raw_name)}: {what}; only regular files and folders are taken",
                )
            pending = _Pending()

    def skip(self, size: int, *, length: int) -> None:
        """Passes over the `size` bytes of the entry, unread: the stream can seek, and has `length` bytes in all."""
        end = self._offset + size + -size % BLOCK
        self._offset = min(end, length)
        if end > length:
            raise self._malformed("unexpected end of archive")
        self._stream.seek(end)

    def _block(self) -> bytes | None:
        """The next header, or None where no tar follows the end mark."""
        block = self._read(BLOCK)
        if block == bytes(BLOCK):
            return self._block_behind_end()
        if not is_header(block):
            raise self._malformed("no tar header (its checksum is wrong)")
        return block

    def _block_behind_end(self) -> bytes | None:
        """The header of a further tar behind the end mark, whose padding has any length."""
        while block := self._read_up_to(BLOCK):
            self._meter.grow(len(block), name="(after the last member)")
            if len(block) == BLOCK and is_header(block):
                return block
            if block.strip(b"\0"):
                self._skip_trailing(block)
                return None
        return None

    def _skip_trailing(self, block: bytes) -> None:
        self.trailing_bytes = len(block)
        while piece := self._read_up_to(PIECE):
            self._meter.grow(len(piece), name="(after the last member)")
            self.trailing_bytes += len(piece)

    def _read(self, count: int) -> bytes:
        """Exactly `count` bytes, at most one piece."""
        data = self._read_up_to(count)
        if len(data) < count:
            raise self._malformed("unexpected end of archive")
        return data

    def _read_up_to(self, count: int) -> bytes:
        """`count` bytes; fewer at the end of the stream alone."""
        data = self._stream.read(count)
        while len(data) < count and (more := self._stream.read(count - len(data))):
            data += more
        self._offset += len(data)
        return data

    def _data(self, size: int) -> Iterator[bytes]:
        rest = size
        while rest:
            piece = self._read(min(PIECE, rest))
            rest -= len(piece)
            yield piece
        self._read(-size % BLOCK)

    def _extended(self, kind: bytes, size: int, pending: _Pending) -> None:
        pending.header_bytes += BLOCK + size
        self._meter.header(pending.header_bytes)
        body = b"".join(self._data(size))
        self._meter.grow(BLOCK + size, name="(header)")
        if kind == b"L":
            pending.name = body.rstrip(b"\0")
        elif kind in (b"x", b"g"):
            self._pax(body, pending, is_global=kind == b"g")

    def _pax(self, body: bytes, pending: _Pending, *, is_global: bool) -> None:
        for key, value in self._records(body):
            if key.startswith(b"GNU.sparse"):
                raise DatasetError(
                    Reason.DATASET_UNSAFE,
                    f"member {self._meter.members + 1}: sparse file; only regular files are taken",
                )
            if key not in (b"path", b"size"):
                continue
            if is_global:
                raise self._malformed(f"a global header sets {key.decode()} for all members")
            if key == b"path":
                pending.name = value
            else:
                pending.size = self._decimal(value)

    def _records(self, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The `LENGTH KEY=VALUE\\n` records of a PAX header."""
        while body:
            digits, space, _ = body.partition(b" ")
            length = self._decimal(digits)
            record = body[len(digits) + 1 : length]
            if not space or length > len(body) or length <= len(digits) + 1 or not record.endswith(b"\n"):
                raise self._malformed("damaged PAX header")
            key, equals, value = record[:-1].partition(b"=")
            if not equals:
                raise self._malformed("damaged PAX header")
            yield key, value
            body = body[length:]

    def _decimal(self, digits: bytes) -> int:
        if not digits.isdigit() or len(digits) > 20:
            raise self._malformed(f"{shown(digits[:20])} is not a size")
        return int(digits)

    def _number(self, field: bytes) -> int:
        """A header number: octal text, or base 256 where the first bit is set. Negative ones are refused: they
        send readers backwards (CVE-2025-8194)."""
        if field[0] & 0x80:
            value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
            if field[0] == 0xFF or value >= 2**63:
                raise DatasetError(
                    Reason.DATASET_UNSAFE, f"member {self._meter.members + 1}: negative or absurd size in its header"
                )
            return value
        text = field.strip(b" \0")
        if not all(c in b"01234567" for c in text):
            raise self._malformed("no tar header (a number is not octal)")
        return int(text or b"0", 8)

    def _malformed(self, what: str) -> DatasetError:
        return DatasetError(
            Reason.DATASET_MALFORMED,
            f"{what} after {self._meter.members} members (offset {self._offset}); pack or upload it again",
        )


def is_header(block: bytes) -> bool:
    """Whether the block is a tar header, by its checksum."""
    field = block[148:156].strip(b" \0")
    if len(block) != BLOCK or not field or any(digit not in b"01234567" for digit in field):
        return False
    stored, blank = int(field, 8), block[:148] + b" " * 8 + block[156:]
    # Some old tars summed signed bytes.
    unsigned = sum(blank)
    return stored == unsigned or stored == unsigned - 256 * sum(byte > 127 for byte in blank)


def _name(block: bytes) -> bytes:
    """The name in the header itself; POSIX headers may have its first part in a field of its own."""
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]
