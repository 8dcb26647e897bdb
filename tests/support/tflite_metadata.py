"""Reads a file's TFLite metadata by the rules of MediaPipe's and the Task Library's readers, apart from the writer."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
from flatbuffers.number_types import Float32Flags, Int8Flags, Uint32Flags
from flatbuffers.table import Table


@dataclass(frozen=True)
class DetectorMetadata:
    """What a runtime learns of a detector: its tensors' names, how to normalise, how boxes lie, and the labels."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    normalization: tuple[float, float]
    box_order: tuple[int, ...]
    labels: tuple[str, ...]


def read_metadata(data: bytes) -> DetectorMetadata:
    model = _root(data)
    (buffer,) = (entry.number(1) for entry in model.tables(6) if entry.text(0) == "TFLITE_METADATA")
    content = list(model.tables(4))[buffer].content(0)
    assert content[4:8] == b"M001"
    (graph,) = _root(content).tables(3)
    (image,) = graph.tables(2)
    boxes, classes, *others = graph.tables(3)
    (unit,) = image.tables(4)
    (file,) = classes.tables(6)
    box_order: tuple[int, ...] = ()
    if others:
        properties = boxes.table(3).table(1)
        assert (boxes.table(3).byte(0), properties.byte(1), properties.byte(2)) == (3, 1, 0)  # boundaries, as a ratio
        box_order = properties.integers(0)
    # A value is an index of the labels (TENSOR_VALUE_LABELS), or there is a column for each (TENSOR_AXIS_LABELS).
    assert file.byte(2) == (3 if others else 2)
    assert boxes.has(3) == graph.has(8) == bool(others)
    return DetectorMetadata(
        inputs=(image.text(0),),
        outputs=tuple(item.text(0) for item in graph.tables(3)),
        normalization=(unit.table(1).floats(0)[0], unit.table(1).floats(1)[0]),
        box_order=box_order,
        labels=tuple(_associated_file(data, file.text(0)).decode().splitlines()),
    )


def _associated_file(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.getinfo(name).compress_type == zipfile.ZIP_STORED
        return archive.read(name)


def _root(data: bytes) -> "_Reader":
    return _Reader(Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)))


@dataclass(frozen=True)
class _Reader:
    """The fields of one table by their numbers."""

    at: Any

    def _position(self, field: int) -> int:
        offset = self.at.Offset(4 + 2 * field)
        assert offset, f"field {field} is missing"
        return int(offset)

    def has(self, field: int) -> bool:
        return bool(self.at.Offset(4 + 2 * field))

    def number(self, field: int) -> int:
        return int(self.at.Get(Uint32Flags, self.at.Pos + self._position(field)))

    def byte(self, field: int) -> int:
        offset = self.at.Offset(4 + 2 * field)
        return int(self.at.Get(Int8Flags, self.at.Pos + offset)) if offset else 0

    def text(self, field: int) -> str:
        return str(self.at.String(self.at.Pos + self._position(field)).decode())

    def table(self, field: int) -> "_Reader":
        return _Reader(Table(self.at.Bytes, self.at.Indirect(self.at.Pos + self._position(field))))

    def tables(self, field: int) -> Iterator["_Reader"]:
        for at in self._elements(field):
            yield _Reader(Table(self.at.Bytes, self.at.Indirect(at)))

    def floats(self, field: int) -> tuple[float, ...]:
        return tuple(self.at.Get(Float32Flags, at) for at in self._elements(field))

    def integers(self, field: int) -> tuple[int, ...]:
        return tuple(self.at.Get(Uint32Flags, at) for at in self._elements(field))

    def content(self, field: int) -> bytes:
        start, length = self.at.Vector(self._position(field)), self.at.VectorLen(self._position(field))
        return bytes(self.at.Bytes[start : start + length])

    def _elements(self, field: int) -> list[int]:
        position = self._position(field)
        return [self.at.Vector(position) + 4 * k for k in range(self.at.VectorLen(position))]
