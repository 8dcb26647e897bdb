"""Writes and reads TFRecord files of `tf.train.Example` without TensorFlow.

The format is documented in `tensorflow/core/lib/io/record_writer.h` (frame: length, masked CRC-32C of the
length, data, masked CRC-32C of the data; little endian) and `tensorflow/core/example/{example,feature}.proto`.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, BinaryIO

from atoll_contract.errors import DatasetError, Reason

_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
# The wire type of length-delimited fields in the protocol buffer encoding.
_BYTES = 2
# Wire types of one double and one float; the fields of a `tf.train.Feature`; how far an integer of 64 bits is shifted.
_DOUBLE, _FLOAT = 1, 5
_FIXED_SIZES = {_DOUBLE: 8, _FLOAT: 4}
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_MAX_SHIFT = 63
_MAX_RECORD = 2**30


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """Returns a serialised `tf.train.Example` of serialised features.

    Keys are in sorted order, so that equal features give equal bytes.
    """
    entries = b"".join(_field(1, _key(key) + _field(2, features[key])) for key in sorted(features))
    return _field(1, entries)


@cache
def _key(key: str) -> bytes:
    return _field(1, key.encode())


def bytes_feature(*values: bytes) -> bytes:
    """Returns a serialised `tf.train.Feature` with a BytesList."""
    return _field(_BYTES_LIST, b"".join(_field(1, value) for value in values))


def float_feature(values: Sequence[float]) -> bytes:
    """Returns a serialised `tf.train.Feature` with a packed FloatList."""
    return _field(_FLOAT_LIST, _field(1, struct.pack(f"<{len(values)}f", *values)))


def int64_feature(values: Sequence[int]) -> bytes:
    """Returns a serialised `tf.train.Feature` with a packed Int64List."""
    if all(0 <= value < 0x80 for value in values):
        return _field(_INT64_LIST, _field(1, bytes(values)))
    return _field(_INT64_LIST, _field(1, b"".join(_varint(value & 2**64 - 1) for value in values)))


def decode_example(data: bytes) -> dict[str, list[Any]]:
    """Returns the features of a serialised `tf.train.Example`: bytes, floats or integers by key.

    Raises:
        ValueError: the bytes are not an example.
    """
    features: dict[str, list[Any]] = {}
    for outer in _values(memoryview(data), 1):
        for entry in _values(outer, 1):
            key = b"".join(_values(entry, 1)).decode()
            features[key] = [value for feature in _values(entry, 2) for value in _feature(feature)]
    return features


def _feature(data: memoryview) -> list[Any]:
    """Returns the values of a `tf.train.Feature` with any of its three lists."""
    found: list[Any] = []
    for kind, _, values in _fields(data):
        if kind == _BYTES_LIST:
            found += [bytes(value) for value in _values(values, 1)]
        elif kind == _FLOAT_LIST:
            found += _floats(values)
        else:
            found += _integers(values)
    return found


def _floats(data: memoryview) -> list[float]:
    """Returns the values of a FloatList, which may be packed or not."""
    found: list[float] = []
    for _, wire, value in _fields(data):
        if wire == 0 or len(value) % _FIXED_SIZES[_FLOAT]:
            raise ValueError(f"a list of floats holds a value of wire type {wire}")
        found += struct.unpack(f"<{len(value) // _FIXED_SIZES[_FLOAT]}f", value)
    return found


def _integers(data: memoryview) -> list[int]:
    """Returns the values of an Int64List, which may be packed or not."""
    found: list[int] = []
    for _, wire, value in _fields(data):
        if wire == 0:
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            integer, at = _read_varint(value, at)
            found.append(_signed(integer))
    return found


def _values(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yields the fields with the number `wanted`, which must be messages or bytes."""
    for number, wire, value in _fields(data):
        if number == wanted:
            if wire != _BYTES:
                raise ValueError(f"field {number} has wire type {wire}")
            yield value


def _fields(data: Any) -> Iterator[tuple[int, int, Any]]:
    """Yields number, wire type and value of each field of a message: bytes, or an integer of wire type 0."""
    if not isinstance(data, memoryview):
        raise ValueError("an integer stands where a message should")
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield tag >> 3, wire, value
            continue
        if wire == _BYTES:
            size, at = _read_varint(data, at)
        elif wire in _FIXED_SIZES:
            size = _FIXED_SIZES[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"a field ends {at + size - len(data)} bytes past the end")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > _MAX_SHIFT:
            raise ValueError(f"an integer is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def write_records(file: BinaryIO, records: Iterable[bytes]) -> int:
    """Writes every record with its frame, and returns their number."""
    count = 0
    for record in records:
        length = _LENGTH.pack(len(record))
        file.write(length + _CRC.pack(_masked_crc(length)))
        file.write(record)
        file.write(_CRC.pack(_masked_crc(record)))
        count += 1
    return count


def read_records(file: BinaryIO, *, name: str) -> Iterator[bytes]:
    """Yields every record after comparing its checksums.

    Raises:
        DatasetError: DatasetMalformed, with the number of the record (from 0).
    """
    number = 0
    while head := file.read(_LENGTH.size + _CRC.size):
        if len(head) < _LENGTH.size + _CRC.size:
            raise _malformed(name, f"record {number} is cut off")
        length = _LENGTH.unpack_from(head)[0]
        if _CRC.unpack_from(head, _LENGTH.size)[0] != _masked_crc(head[: _LENGTH.size]) or length > _MAX_RECORD:
            raise _malformed(name, f"record {number} length CRC mismatch")
        body = file.read(length + _CRC.size)
        if len(body) < length + _CRC.size:
            raise _malformed(name, f"record {number} is cut off")
        if _CRC.unpack_from(body, length)[0] != _masked_crc(body[:length]):
            raise _malformed(name, f"record {number} CRC mismatch")
        yield body[:length]
        number += 1


def _malformed(name: str, what: str) -> DatasetError:
    return DatasetError(Reason.DATASET_MALFORMED, f"{name}: {what}")


def _masked_crc(data: bytes) -> int:
    import google_crc32c

    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _field(number: int, value: bytes) -> bytes:
    # All numbers of fields and most lengths are single bytes.
    size = len(value)
    return bytes((number << 3 | _BYTES, size)) + value if size < 0x80 else _long_field(number, value)


def _long_field(number: int, value: bytes) -> bytes:
    return b"".join((_varint(number << 3 | _BYTES), _varint(len(value)), value))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
