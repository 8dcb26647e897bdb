"""Reads the operations of a .tflite file, and corrects its outputs in place.

pycoral (`adapters/detect.get_objects`) reads a file's outputs by position: boxes, classes, scores, count if there is no
signature, else by the signature's names in its own order. The converter permutes the outputs and writes
signatures. Both are fixed inside the buffer, whose size does not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atoll_contract import tflite
from atoll_contract.errors import ModelError, Reason

# Offsets of two fields in the vtables of the schema's tables, which start with two sizes: `signature_defs` is the
# eighth of Model (version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata, signature_defs),
# `outputs` the third of SubGraph (tensors, inputs, outputs).
_SIGNATURE_OFFSET = 4 + 2 * 7
_OUTPUTS_OFFSET = 4 + 2 * 2
_UINT32 = struct.Struct("<I")
_UINT16 = struct.Struct("<H")
_INT32 = struct.Struct("<i")


@dataclass(frozen=True)
class TensorInfo:
    """What the mapping rules need to know of a tensor; `type` is the schema's name, such as `INT8`."""

    name: str
    type: str
    shape: tuple[int, ...]
    constant: bool


@dataclass(frozen=True)
class Operation:
    """One operation of the graph: its name in the schema (`CONV_2D`, or the custom code), version and tensors."""

    name: str
    version: int
    custom: bool
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def operations(data: bytes) -> Iterator[Operation]:
    """Yields every operation of the first graph, in its order.

    Raises:
        ModelError: CompileFailed, it is not a .tflite file.
    """
    model = _model(data)
    graph = model.Subgraphs(0)
    tensors = _tensors(model, graph)
    for operator, name, custom in _operators(model, graph):
        yield Operation(
            name=name,
            version=model.OperatorCodes(operator.OpcodeIndex()).Version(),
            custom=custom,
            inputs=tuple(tensors[j] for k in range(operator.InputsLength()) if (j := operator.Inputs(k)) >= 0),
            outputs=tuple(tensors[operator.Outputs(k)] for k in range(operator.OutputsLength())),
        )


def fix_outputs(data: bytes, *, operation: str) -> bytes:
    """Returns the file with its outputs in the order of the custom operation's outputs, and without signatures.

    Raises:
        ModelError: CompileFailed, the operation is missing or the file's outputs are not its outputs.
    """
    buffer = bytearray(data)
    model = _model(buffer)
    graph = model.Subgraphs(0)
    _reorder(buffer, graph, _custom_outputs(model, graph, operation), owner=operation)
    return bytes(buffer)


def order_outputs(data: bytes, *, names: Sequence[str]) -> bytes:
    """Returns the file with its outputs in the order of their names in its signature, and without signatures.

    Raises:
        ModelError: CompileFailed, the file has no signature, or one with other outputs.
    """
    buffer = bytearray(data)
    model = _model(buffer)
    signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
    outputs = [signature.Outputs(k) for k in range(signature.OutputsLength())] if signature else []
    found = {item.Name().decode(): int(item.TensorIndex()) for item in outputs}
    if set(found) != set(names):
        raise ModelError(
            Reason.COMPILE_FAILED, f"the exported file has the outputs {sorted(found)}; it must have {sorted(names)}"
        )
    _reorder(buffer, model.Subgraphs(0), [found[name] for name in names], owner="its signature")
    return bytes(buffer)


def _reorder(buffer: bytearray, graph: Any, wanted: Sequence[int], *, owner: str) -> None:
    """Puts the outputs of the buffer's graph in the wanted order, and drops the signatures."""
    present = [int(graph.Outputs(k)) for k in range(graph.OutputsLength())]
    if sorted(present) != sorted(wanted):
        raise ModelError(Reason.COMPILE_FAILED, f"the file's outputs {present} are not those of {owner} {wanted}")
    table = graph._tab
    start = table.Vector(table.Offset(_OUTPUTS_OFFSET))
    for k, index in enumerate(wanted):
        _INT32.pack_into(buffer, start + 4 * k, index)
    _drop_signatures(buffer)


def _custom_outputs(model: Any, graph: Any, operation: str) -> list[int]:
    for operator, name, custom in _operators(model, graph):
        if custom and name == operation:
            return [int(operator.Outputs(k)) for k in range(operator.OutputsLength())]
    raise ModelError(Reason.COMPILE_FAILED, f"the exported file holds no operation {operation}")


def _drop_signatures(buffer: bytearray) -> None:
    """Makes the root table say that it has no field `signature_defs`."""
    root = _UINT32.unpack_from(buffer, 0)[0]
    vtable = root - _INT32.unpack_from(buffer, root)[0]
    if _UINT16.unpack_from(buffer, vtable)[0] > _SIGNATURE_OFFSET:
        _UINT16.pack_into(buffer, vtable + _SIGNATURE_OFFSET, 0)


def _model(data: bytes | bytearray) -> Any:
    if len(data) < 8 or data[4:8] != tflite.IDENTIFIER:
        raise ModelError(Reason.COMPILE_FAILED, f"{len(data)} bytes are no .tflite file (no TFL3 mark)")
    return _schema().Model.GetRootAs(data, 0)


def _operators(model: Any, graph: Any) -> Iterator[tuple[Any, str, bool]]:
    """Yields each operator of a graph, its name, and whether it is a custom one."""
    names = _names(_schema().BuiltinOperator)
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = number == tflite.CUSTOM
        yield operator, code.CustomCode().decode() if custom else names[number], custom


def _tensors(model: Any, graph: Any) -> list[TensorInfo]:
    types = _names(_schema().TensorType)
    tensors = []
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        tensors.append(
            TensorInfo(
                name=tensor.Name().decode(),
                type=types[tensor.Type()],
                shape=tuple(int(tensor.Shape(k)) for k in range(tensor.ShapeLength())),
                constant=model.Buffers(tensor.Buffer()).DataLength() > 0,
            )
        )
    return tensors


def _schema() -> Any:
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
