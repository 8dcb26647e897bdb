"""TFRecord files of `tf.train.Example`, written without TensorFlow.

The format is documented in `tensorflow/core/lib/io/record_writer.h` (frame: length, masked CRC-32C of the
length, data, masked CRC-32C of the data; little endian) and `tensorflow/core/example/{example,feature}.proto`.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason

_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
# The wire type of length-delimited fields in the protocol buffer encoding.
_BYTES = 2
_MAX_RECORD = 2**30


def encode_example(features: Mapping[str, "BytesList | FloatList | Int64List"]) -> bytes:
    """A serialised `tf.train.Example`; keys in sorted order, so that equal features give equal bytes."""
    entries = b"".join(
        _field(1, _field(1, key.encode()) + _field(2, features[key].encode())) for key in sorted(features)
    )
    return _field(1, entries)


class BytesList:
    """`tf.train.BytesList`."""

    def __init__(self, *values: bytes) -> None:
        self._values = values

    def encode(self) -> bytes:
        return _field(1, b"".join(_field(1, value) for value in self._values))


class FloatList:
    """`tf.train.FloatList`, packed."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def encode(self) -> bytes:
        return _field(2, _field(1, struct.pack(f"<{len(self._values)}f", *self._values)))


class Int64List:
    """`tf.train.Int64List`, packed."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values

    def encode(self) -> bytes:
        return _field(3, _field(1, b"".join(_varint(value & 2**64 - 1) for value in self._values)))


def write_records(file: BinaryIO, records: Iterable[bytes]) -> int:
    """Write every record with its frame; how many there were."""
    count = 0
    for record in records:
        length = _LENGTH.pack(len(record))
        file.write(length + _CRC.pack(_masked_crc(length)))
        file.write(record)
        file.write(_CRC.pack(_masked_crc(record)))
        count += 1
    return count


def read_records(file: BinaryIO, *, name: str) -> Iterator[bytes]:
    """Every record, its checksums compared.

    Raises:
        DatasetError: DatasetMalformed, naming the record (from 0).
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
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
