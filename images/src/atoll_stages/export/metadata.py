"""TFLite metadata: what MediaPipe, the TFLite Task Library and Android Studio must know of a detector's file.

It is a FlatBuffer of its own (metadata_schema.fbs, identifier M001) in one of the model's buffers, and a ZIP archive
with the list of labels behind the model. The numbers of fields below are those of the schema's tables, in its order.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import flatbuffers

from atoll_contract import tflite
from atoll_contract.document import to_json
from atoll_contract.errors import ModelError, Reason
from atoll_contract.images import Resize, stated_preprocessing
from atoll_contract.labelmap import labels_text

LABELS_NAME = "labels.txt"
_IDENTIFIER = b"M001"
# The oldest version of the schema that has everything that is written here.
_MIN_PARSER_VERSION = "1.2.0"
_TIME = (1980, 1, 1, 0, 0, 0)
# Of the tensors' data in the file; TFLite asks for 16, and some compilers for more.
_ALIGNMENT = 64
# Bytes become -1…1: (byte - mean) / deviation.
_MEAN = _DEVIATION = 127.5

_INPUTS = {
    Resize.SQUASH: "An RGB picture, squashed to the input's size.",
    Resize.LETTERBOX: "An RGB picture that keeps its aspect ratio, in the middle of the input; beside it grey, 127.",
}
_RGB = 1
_IMAGE_PROPERTIES, _BOX_PROPERTIES = 2, 3
_NORMALIZATION_OPTIONS = 1
_BOUNDARIES, _RATIO = 1, 0
# Where left, top, right and bottom stand in a box (ymin, xmin, ymax, xmax).
_BOX_ORDER = (1, 0, 3, 2)
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_RESULT_GROUP = "detection_result"
# The fields of the schema's Model.
_MODEL_FIELDS = ("version", "operator_codes", "subgraphs", "description", "buffers", "metadata_buffer", "metadata")
_OFFSET_FIELDS = ("operator_codes", "subgraphs", "description", "metadata_buffer")


class Outputs(StrEnum):
    """What a detector's file gives, in the order of its outputs."""

    DETECTIONS = "boxes, classes, scores and their number"
    DISTRIBUTIONS = "the distributions of a box and the scores of all classes, for each cell"


def add_metadata(
    data: bytes,
    *,
    name: str,
    labels: Sequence[str],
    outputs: Outputs = Outputs.DETECTIONS,
    resize: Resize = Resize.SQUASH,
) -> bytes:
    """Returns the file of a detector with metadata, of which it must have none yet. What was in the file stays as it
    is, and the same arguments give the same bytes. `resize` is how the model expects images.

    Raises:
        ModelError: CompileFailed, it is not a .tflite file.
    """
    described = {tflite.METADATA_NAME: describe_detector(name, labels, outputs, resize)}
    packed = io.BytesIO(_embed(data, described | _preprocessing(resize)))
    packed.seek(0, io.SEEK_END)
    # Readers of the metadata look for the archive from the file's end, and refuse compressed members.
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_NAME, _TIME), labels_text(labels))
    return packed.getvalue()


def _preprocessing(resize: Resize) -> dict[str, bytes]:
    stated = stated_preprocessing(resize)
    return {tflite.PREPROCESSING_NAME: to_json(stated)} if stated else {}


def describe_detector(name: str, labels: Sequence[str], outputs: Outputs, resize: Resize) -> bytes:
    """Returns the metadata of a detector as a FlatBuffer."""
    builder = flatbuffers.Builder(2048)
    write = _MetadataWriter(builder)
    graph = {2: write.tables([write.image_input(resize)])}
    if outputs is Outputs.DETECTIONS:
        graph |= {3: write.tables(write.detections()), 8: write.tables([write.result_group()])}
    else:
        graph |= {3: write.tables(write.distributions())}
    root = write.table(
        offsets={
            0: builder.CreateString(name),
            1: builder.CreateString(f"Detects {', '.join(labels)}."),
            3: write.tables([write.table(offsets=graph)]),
            7: builder.CreateString(_MIN_PARSER_VERSION),
        }
    )
    builder.Finish(root, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


@dataclass(frozen=True)
class _MetadataWriter:
    """Writes the schema's tables; each method returns the offset of what it wrote."""

    builder: flatbuffers.Builder

    def table(self, *, offsets: dict[int, int] | None = None, small: dict[int, int] | None = None) -> int:
        """A table with fields of offsets and of single bytes, by their numbers."""
        self.builder.StartObject(max((*(offsets or {}), *(small or {})), default=-1) + 1)
        for number, offset in (offsets or {}).items():
            self.builder.PrependUOffsetTRelativeSlot(number, offset, 0)
        for number, value in (small or {}).items():
            self.builder.PrependInt8Slot(number, value, 0)
        return int(self.builder.EndObject())

    def tables(self, offsets: Sequence[int]) -> int:
        return self._vector(offsets, self.builder.PrependUOffsetTRelative)

    def floats(self, values: Sequence[float]) -> int:
        return self._vector(values, self.builder.PrependFloat32)

    def _vector(self, values: Sequence[Any], prepend: Callable[[Any], None]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            prepend(value)
        return int(self.builder.EndVector())

    def image_input(self, resize: Resize) -> int:
        properties = self.table(small={0: _RGB})
        content = self.table(offsets={1: properties}, small={0: _IMAGE_PROPERTIES})
        options = self.table(offsets={0: self.floats([_MEAN]), 1: self.floats([_DEVIATION])})
        unit = self.table(offsets={1: options}, small={0: _NORMALIZATION_OPTIONS})
        fields = {3: content, 4: self.tables([unit])}
        return self.tensor("image", _INPUTS[resize], fields=fields)

    def detections(self) -> list[int]:
        return [
            self.boxes(),
            self.tensor("category", "The class of each box, from 0.", files=[self.label_file(_VALUE_LABELS)]),
            self.tensor("score", "How sure the model is of each box, 0 to 1."),
            self.tensor("number of detections", "How many boxes there are."),
        ]

    def distributions(self) -> list[int]:
        """What no runtime's metadata has words for: it takes Atoll's or Frigate's reader to find boxes in it."""
        columns = "How sure the model is of each class (columns), in each cell. A single class has two equal columns."
        return [
            self.tensor("box distributions", "Where the four edges of the box of each cell may be."),
            self.tensor("scores", columns, files=[self.label_file(_AXIS_LABELS)]),
        ]

    def boxes(self) -> int:
        order = self._vector(_BOX_ORDER, self.builder.PrependUint32)
        properties = self.table(offsets={0: order}, small={1: _BOUNDARIES, 2: _RATIO})
        content = self.table(offsets={1: properties}, small={0: _BOX_PROPERTIES})
        return self.tensor("location", "Boxes: ymin, xmin, ymax, xmax, each 0 to 1.", fields={3: content})

    def tensor(
        self, name: str, description: str, *, fields: dict[int, int] | None = None, files: Sequence[int] = ()
    ) -> int:
        offsets = {0: self.builder.CreateString(name), 1: self.builder.CreateString(description), **(fields or {})}
        if files:
            offsets[6] = self.tables(files)
        return self.table(offsets=offsets)

    def label_file(self, kind: int) -> int:
        name = self.builder.CreateString(LABELS_NAME)
        return self.table(offsets={0: name}, small={2: kind})

    def result_group(self) -> int:
        members = [self.builder.CreateString(name) for name in ("location", "category", "score")]
        return self.table(offsets={0: self.builder.CreateString(_RESULT_GROUP), 1: self.tables(members)})


def _embed(data: bytes, metadata: Mapping[str, bytes]) -> bytes:
    """Returns the model with a new root table in front, which has a buffer more for each metadata by its name; the old
    bytes are behind it.

    References in a FlatBuffer point forward and are relative, so the old tables hold where they are.
    """
    if len(data) < 8 or data[4:8] != tflite.IDENTIFIER:
        raise ModelError(Reason.COMPILE_FAILED, f"{len(data)} bytes are no .tflite file (no TFL3 mark)")
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    builder = flatbuffers.Builder(len(data) + sum(map(len, metadata.values())) + 16384)
    _prepend(builder, data + bytes(-len(data) % _ALIGNMENT), alignment=_ALIGNMENT)
    end = builder.Offset()

    buffers: list[int] = []
    entries: list[int] = []
    for text, content in metadata.items():
        content_at = _byte_vector(builder, content)
        schema.BufferStart(builder)
        schema.BufferAddData(builder, content_at)
        buffers.append(schema.BufferEnd(builder))
        name = builder.CreateString(text)
        schema.MetadataStart(builder)
        schema.MetadataAddName(builder, name)
        schema.MetadataAddBuffer(builder, model.BuffersLength() + len(entries))
        entries.append(schema.MetadataEnd(builder))

    writer = _MetadataWriter(builder)
    vectors = {
        "buffers": [*(end - model.Buffers(k)._tab.Pos for k in range(model.BuffersLength())), *buffers],
        "metadata": [*(end - model.Metadata(k)._tab.Pos for k in range(model.MetadataLength())), *entries],
    }
    offsets = {_MODEL_FIELDS.index(field): writer.tables(items) for field, items in vectors.items()}
    for field in _OFFSET_FIELDS:
        number = _MODEL_FIELDS.index(field)
        position = model._tab.Offset(4 + 2 * number)
        if position:
            offsets[number] = end - model._tab.Indirect(model._tab.Pos + position)
    builder.StartObject(len(_MODEL_FIELDS))
    builder.PrependUint32Slot(0, model.Version(), 0)
    for number, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    builder.Finish(builder.EndObject(), file_identifier=tflite.IDENTIFIER)
    return bytes(builder.Output())


def _byte_vector(builder: flatbuffers.Builder, data: bytes) -> int:
    """A vector of bytes that begins at a multiple of 16, as the schema asks of a buffer's data."""
    builder.StartVector(1, len(data), 16)
    _prepend(builder, data, alignment=1)
    return int(builder.EndVector())


def _prepend(builder: flatbuffers.Builder, data: bytes, *, alignment: int) -> None:
    builder.Prep(alignment, len(data))
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
