"""The smallest .tflite files for a test: inputs and operators, no weights."""

from collections.abc import Mapping, Sequence

import flatbuffers

CONV_2D = 3
CUSTOM = 32
TILE = 69
INT32 = 2
UINT8 = 3


def minimal_tflite(
    operators: Sequence[int | str] = (CONV_2D, "TFLite_Detection_PostProcess"),
    *,
    shape: Sequence[int] = (1, 320, 320, 3),
    dtype: int = UINT8,
    outputs: int = 0,
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """A model with one input and the given operators: a builtin's code, or the name of a custom one. Each output is the
    input itself. `metadata` are texts by their names."""
    builder = flatbuffers.Builder(1024)
    held = [_buffer(builder, text) for text in (metadata or {}).values()]
    buffers = builder_vector(builder, held)
    named = builder_vector(builder, [_metadata(builder, name, at) for at, name in enumerate(metadata or {})])
    codes = builder_vector(builder, [_code(builder, operator) for operator in operators])
    steps = builder_vector(builder, [_operator(builder, index) for index in range(len(operators))])
    tensors = builder_vector(builder, [_tensor(builder, shape, dtype)])
    inputs, given = _integers(builder, [0]), _integers(builder, [0] * outputs)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, tensors, 0)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, given, 0)
    builder.PrependUOffsetTRelativeSlot(3, steps, 0)
    graphs = builder_vector(builder, [builder.EndObject()])
    builder.StartObject(8)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(1, codes, 0)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    if metadata:
        builder.PrependUOffsetTRelativeSlot(4, buffers, 0)
        builder.PrependUOffsetTRelativeSlot(6, named, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


def builder_vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _integers(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependInt32(value)
    return int(builder.EndVector())


def _buffer(builder: flatbuffers.Builder, content: bytes) -> int:
    data = builder.CreateByteVector(content)
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, data, 0)
    return int(builder.EndObject())


def _metadata(builder: flatbuffers.Builder, name: str, buffer: int) -> int:
    text = builder.CreateString(name)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependUint32Slot(1, buffer, 0)
    return int(builder.EndObject())


def _code(builder: flatbuffers.Builder, operator: int | str) -> int:
    name = builder.CreateString(operator) if isinstance(operator, str) else 0
    number = CUSTOM if isinstance(operator, str) else operator
    builder.StartObject(4)
    builder.PrependInt8Slot(0, min(number, 127), 0)
    builder.PrependUOffsetTRelativeSlot(1, name, 0)
    builder.PrependInt32Slot(3, number, 0)
    return int(builder.EndObject())


def _operator(builder: flatbuffers.Builder, index: int) -> int:
    builder.StartObject(9)
    builder.PrependUint32Slot(0, index, 0)
    return int(builder.EndObject())


def _tensor(builder: flatbuffers.Builder, shape: Sequence[int], dtype: int, buffer: int = 0) -> int:
    sizes = _integers(builder, shape)
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(0, sizes, 0)
    builder.PrependInt8Slot(1, dtype, 0)
    builder.PrependUint32Slot(2, buffer, 0)
    return int(builder.EndObject())


def tiling_tflite(side: int, times: int) -> bytes:
    """An input of which an operator makes `times` × `times` copies: a small file that asks for much memory."""
    builder = flatbuffers.Builder(1024)
    content = builder.CreateByteVector(b"".join(number.to_bytes(4, "little") for number in (1, times, times, 1)))
    buffers = []
    for filled in (False, True):
        builder.StartObject(3)
        if filled:
            builder.PrependUOffsetTRelativeSlot(0, content, 0)
        buffers.append(int(builder.EndObject()))
    codes = builder_vector(builder, [_code(builder, TILE)])
    shapes = ((1, side, side, 3), (4,), (1, side * times, side * times, 3))
    kinds = (UINT8, INT32, UINT8)
    tensors = builder_vector(
        builder,
        [_tensor(builder, shape, kind, int(kind == INT32)) for shape, kind in zip(shapes, kinds, strict=True)],
    )
    inputs, outputs = _integers(builder, [0, 1]), _integers(builder, [2])
    builder.StartObject(9)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    steps = builder_vector(builder, [int(builder.EndObject())])
    given, made = _integers(builder, [0]), _integers(builder, [2])
    builder.StartObject(5)
    for slot, offset in enumerate((tensors, given, made, steps)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    graphs = builder_vector(builder, [builder.EndObject()])
    held = builder_vector(builder, buffers)
    builder.StartObject(8)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(1, codes, 0)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.PrependUOffsetTRelativeSlot(4, held, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())
