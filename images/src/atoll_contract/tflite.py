"""Reads the inputs, the outputs, the operators, the metadata's names and the preprocessing of a .tflite file.

A bounds-checked reader of the FlatBuffers encoding (flatbuffers.dev/internals) for a few tables of TensorFlow Lite's
schema (tensorflow/compiler/mlir/lite/schema/schema.fbs). Any bytes give a result or TfliteError. The numbers of fields
below are those of the schema's tables, in its order.
"""

import struct
from dataclasses import dataclass

from atoll_contract.document import DecodeError, from_json
from atoll_contract.images import Preprocessing, Resize

IDENTIFIER = b"TFL3"
EDGETPU_OP = "edgetpu-custom-op"
METADATA_NAME = "TFLITE_METADATA"
# The name of the metadata that holds `Preprocessing` as JSON, in the files of models that do not squash.
PREPROCESSING_NAME = "atoll.preprocessing"
CUSTOM = 32

_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA = 1, 2, 4, 6
_CODE_OLD_BUILTIN, _CODE_CUSTOM_NAME, _CODE_BUILTIN = 0, 1, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_TYPE = 0, 1
_OPERATOR_CODE = 0
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}


class TfliteError(ValueError):
    """The bytes are not a TensorFlow Lite model."""


class PreprocessingError(TfliteError):
    """The model asks for a preprocessing that this version does not know."""


@dataclass(frozen=True)
class Tensor:
    """`shape` is batch, height, width, channels for an image; `dtype` a name of numpy."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Model:
    """The tensors of the main graph; for each operator in order its builtin code and, if custom, its name."""

    inputs: tuple[Tensor, ...]
    operators: tuple[tuple[int, str], ...]
    outputs: tuple[Tensor, ...] = ()
    metadata_names: tuple[str, ...] = ()
    resize: Resize = Resize.SQUASH

    @property
    def custom_operators(self) -> tuple[str, ...]:
        return tuple(name for code, name in self.operators if code == CUSTOM)

    @property
    def has_metadata(self) -> bool:
        """Whether it carries TFLite metadata, as MediaPipe asks of a model."""
        return METADATA_NAME in self.metadata_names

    @property
    def is_compiled_for_edgetpu(self) -> bool:
        return EDGETPU_OP in self.custom_operators


def read_model(data: bytes) -> Model:
    """Reads the bytes of a .tflite file.

    Raises:
        TfliteError: not a model, cut short, or with references out of the file.
        PreprocessingError: a whole model of a later version.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise TfliteError(f"not a TensorFlow Lite model: no identifier {IDENTIFIER.decode()!r} at byte 4")
    try:
        model = _Table.root(data)
        codes = [_operator_code(table) for table in model.tables(_MODEL_OPERATOR_CODES)]
        graphs = model.tables(_MODEL_SUBGRAPHS)
        if not graphs:
            raise TfliteError("the model has no graph")
        tensors = [_tensor(table) for table in graphs[0].tables(_GRAPH_TENSORS)]
        inputs = tuple(tensors[index] for index in graphs[0].integers(_GRAPH_INPUTS))
        outputs = tuple(tensors[index] for index in graphs[0].integers(_GRAPH_OUTPUTS))
        names = tuple(table.text(_METADATA_NAME) for table in model.tables(_MODEL_METADATA))
        operators = tuple(codes[table.unsigned(_OPERATOR_CODE)] for table in graphs[0].tables(_GRAPH_OPERATORS))
        preprocessing = _metadata(model, PREPROCESSING_NAME)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise TfliteError(f"the model is damaged: {error}") from None
    return Model(inputs, operators, outputs, names, _resize(preprocessing))


def _metadata(model: "_Table", name: str) -> bytes | None:
    """The first metadata of this name."""
    for entry in model.tables(_MODEL_METADATA):
        if entry.text(_METADATA_NAME) == name:
            return model.tables(_MODEL_BUFFERS)[entry.unsigned(_METADATA_BUFFER)].bytes(_BUFFER_DATA)
    return None


def _resize(preprocessing: bytes | None) -> Resize:
    if preprocessing is None:
        return Resize.SQUASH
    try:
        return from_json(Preprocessing, preprocessing).resize
    except (DecodeError, UnicodeDecodeError) as error:
        raise PreprocessingError(f"the model's {PREPROCESSING_NAME} cannot be read: {error}") from None


def _operator_code(table: "_Table") -> tuple[int, str]:
    # Files before schema version 3a have the code in the first field only, as one byte.
    return max(table.byte(_CODE_OLD_BUILTIN), table.integer(_CODE_BUILTIN)), table.text(_CODE_CUSTOM_NAME)


def _tensor(table: "_Table") -> Tensor:
    return Tensor(table.integers(_TENSOR_SHAPE), _TYPES.get(table.byte(_TENSOR_TYPE), "other"))


class _Table:
    """One table. Offsets are unsigned and forward, that of the vtable is signed and backward."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - self._read("<i", position)
        if self._vtable < 0:
            raise IndexError("a vtable lies before the file")
        self._vtable_size = self._read("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def byte(self, field: int) -> int:
        return self._scalar("<b", field)

    def integer(self, field: int) -> int:
        return self._scalar("<i", field)

    def unsigned(self, field: int) -> int:
        return self._scalar("<I", field)

    def text(self, field: int) -> str:
        return self.bytes(field).decode()

    def bytes(self, field: int) -> bytes:
        start, length = self._vector(field, width=1)
        return self._data[start : start + length]

    def integers(self, field: int) -> tuple[int, ...]:
        start, length = self._vector(field, width=4)
        return struct.unpack_from(f"<{length}i", self._data, start)

    def tables(self, field: int) -> list["_Table"]:
        start, length = self._vector(field, width=4)
        positions = (start + 4 * index for index in range(length))
        return [_Table(self._data, position + self._read("<I", position)) for position in positions]

    def _scalar(self, kind: str, field: int) -> int:
        position = self._field(field)
        return self._read(kind, position) if position else 0

    def _vector(self, field: int, *, width: int) -> tuple[int, int]:
        """Position of the first element, and their number; (0, 0) for an absent field."""
        position = self._field(field)
        if not position:
            return 0, 0
        start = position + self._read("<I", position)
        length = self._read("<I", start)
        if start + 4 + length * width > len(self._data):
            raise IndexError(f"a vector of {length} elements at byte {start} leaves the file")
        return start + 4, length

    def _field(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_size:
            return 0
        offset = self._read("<H", self._vtable + entry)
        return self._position + offset if offset else 0

    def _read(self, kind: str, position: int) -> int:
        if position < 0:
            raise IndexError("an offset lies before the file")
        value: int = struct.unpack_from(kind, self._data, position)[0]
        return value
