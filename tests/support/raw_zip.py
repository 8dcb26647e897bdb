"""Zip files byte by byte, as tools write them that zipfile does not imitate."""

import struct
import zlib
from collections.abc import Mapping

_UNICODE_PATH = 0x7075


def unicode_path(raw_name: bytes, name: str) -> bytes:
    """Info-ZIP's extra field with the name in UTF-8."""
    body = b"\x01" + struct.pack("<L", zlib.crc32(raw_name)) + name.encode()
    return struct.pack("<2H", _UNICODE_PATH, len(body)) + body


def raw_zip(
    files: Mapping[bytes, bytes],
    *,
    flags: int = 0,
    system: int = 0,
    method: int = 8,
    extras: Mapping[bytes, bytes] | None = None,
    count: int | None = None,
    gap: int = 0,
) -> bytes:
    """Members under exactly these names.

    `count` is what the end record says instead of the number of members. `gap` is added to the offsets after the first
    member, modulo 2**32, for a file that gets so many bytes between its first and second member later.
    """
    data, directory = bytearray(), bytearray()
    for index, (name, content) in enumerate(files.items()):
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = content if method == 0 else packer.compress(content) + packer.flush()
        streamed = flags & 0x8
        known = (zlib.crc32(content), len(packed), len(content))
        own = (0, 0, 0) if streamed else known
        offset = (len(data) + (gap if index else 0)) % 2**32
        data += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, flags, method, 0, 33, *own, len(name), 0) + name + packed
        if streamed:
            data += struct.pack("<4s3L", b"PK\x07\x08", *known)
        extra = (extras or {}).get(name, b"")
        fields = (system << 8 | 20, 20, flags, method, 0, 33, *known, len(name), len(extra), 0, 0, 0, 0, offset)
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields) + name + extra
    entries = len(files) % 2**16 if count is None else count
    start = (len(data) + gap) % 2**32
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, entries, entries, len(directory), start, 0)
    return bytes(data + directory + end)


def with_zip64(data: bytes) -> bytes:
    """The zip `data` with ZIP64 records, and nothing but full fields in its end record."""
    at = data.rindex(b"PK\x05\x06")
    entries, size, offset = struct.unpack_from("<H2L", data, at + 10)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    full = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + end64 + locator + full
