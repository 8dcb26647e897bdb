"""Predicts from the file alone which operations the Edge TPU compiler maps to the chip.

The rules are the compiler's documented requirements (static shapes, 8-bit tensors, known operations), the operation
versions that compiler 16.0 refused for its users (`google-coral/edgetpu` issues 187, 420, 631, 879), and what Google's
published pairs of plain and compiled models show. The chip runs one part of the graph: from the first operation that
can be mapped up to those that cannot. `CHECKED_OPERATIONS` are those that occur in the pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from atoll_contract.document import Document
from atoll_stages.export.flatbuffer import Operation

# The newest version of each operation that compiler 16.0 is known to map.
MAX_VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 2,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 5,
    "FULLY_CONNECTED": 6,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 2,
    "MAXIMUM": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MINIMUM": 2,
    "MUL": 2,
    "PACK": 2,
    "PAD": 2,
    "QUANTIZE": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SPLIT": 2,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "SUM": 1,
    "TANH": 2,
    "TILE": 3,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
# From these versions on the compiler refuses the whole file.
REFUSED_VERSIONS = {"CONV_2D": 6, "QUANTIZE": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "TRANSPOSE_CONV": 4}
# Those that occur in published pairs of plain and compiled models.
CHECKED_OPERATIONS = frozenset(
    {
        "ADD",
        "ARG_MAX",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEQUANTIZE",
        "LOGISTIC",
        "QUANTIZE",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "SOFTMAX",
        "SPLIT",
        "TILE",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
# The compiler leaves a bilinear resize on the CPU where it would lose too much precision, and does not say when. These
# borders lie between what it mapped (64 to 128 pixels) and what it did not (1 to 33, 256 to 512, 33 and 65 to 513).
MIN_RESIZED_SIDE, MAX_RESIZED_SIDE = 2, 128
DATA_TYPES = frozenset({"INT8", "UINT8"})
CONSTANT_TYPES = frozenset({"INT8", "UINT8", "INT32"})
# Parameters beyond this are sent from the host with every image.
CHIP_BYTES = 7_700_000

# The statuses, in the compiler's own words.
MAPPED = "Mapped to Edge TPU"
UNSUPPORTED_TYPE = "Operation is working on an unsupported data type"
DYNAMIC_SHAPE = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
UNSUPPORTED_OPERATION = "Operation not supported"
UNSUPPORTED_VERSION = "Operation version not supported"
PRECISION_LIMIT = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
SECOND_SUBGRAPH = "More than one subgraph is not supported"
# The same in words for people who do not know the compiler.
EXPLANATIONS = {
    MAPPED: "runs on the Edge TPU",
    UNSUPPORTED_TYPE: "runs on the CPU, because it works with other numbers than 8-bit ones",
    DYNAMIC_SHAPE: "runs on the CPU, because the size of its data is not fixed",
    UNSUPPORTED_OPERATION: "runs on the CPU, because the Edge TPU does not know it",
    UNSUPPORTED_VERSION: "runs on the CPU, because the Edge TPU's compiler is older than this version of it",
    PRECISION_LIMIT: "runs on the CPU, because the Edge TPU would compute it too roughly at this size",
    SECOND_SUBGRAPH: "runs on the CPU, because an operation before it does",
}


class MappingRow(Document, frozen=True):
    """The number of operations of one name, version and status."""

    name: str
    version: int
    count: int
    status: str


class MappingReport(Document, frozen=True):
    """`edgetpu-report.json`. `refused` lists operations for which the compiler would refuse the file; `unchecked` those
    of which no published pair of models says whether the prediction is right."""

    predicted: bool
    mapped: int
    total: int
    percent: float
    refused: tuple[str, ...]
    fits_on_chip: bool
    rows: tuple[MappingRow, ...]
    unchecked: tuple[str, ...] | None = None


def predict_mapping(operations: Iterable[Operation], *, size: int) -> MappingReport:
    """Predicts for a file of `size` bytes."""
    found = list(operations)
    statuses = _statuses(found)
    counts = Counter((o.name, o.version, status) for o, status in zip(found, statuses, strict=True))
    refused = {f"{o.name} v{o.version}" for o in found if o.version >= REFUSED_VERSIONS.get(o.name, 1 << 30)}
    mapped = 0 if refused else statuses.count(MAPPED)
    return MappingReport(
        predicted=True,
        mapped=mapped,
        total=len(found),
        percent=round(100.0 * mapped / max(1, len(found)), 1),
        refused=tuple(sorted(refused)),
        fits_on_chip=size <= CHIP_BYTES,
        rows=tuple(MappingRow(*key[:2], count, key[2]) for key, count in sorted(counts.items())),
        unchecked=tuple(sorted({o.name for o in found} - CHECKED_OPERATIONS)),
    )


def _statuses(operations: Sequence[Operation]) -> list[str]:
    """Returns the status of each operation; those that depend on an unmapped one would need a second subgraph, unless
    that one comes before the first subgraph."""
    statuses = [operation_status(operation) for operation in operations]
    before = _before_the_subgraph(operations, statuses)
    unmapped: set[str] = set()
    for index, operation in enumerate(operations):
        if statuses[index] == MAPPED and any(t.name in unmapped for t in operation.inputs):
            statuses[index] = SECOND_SUBGRAPH
        if statuses[index] != MAPPED and index not in before:
            unmapped.update(t.name for t in operation.outputs)
    return statuses


def _before_the_subgraph(operations: Sequence[Operation], statuses: Sequence[str]) -> set[int]:
    """Returns the operations that run on the CPU before anything runs on the chip: where a graph begins on the CPU,
    TFLite first does all there that needs nothing of the chip."""
    if statuses[:1] == [MAPPED]:
        return set()
    made = {t.name for operation in operations for t in operation.outputs}
    found: set[int] = set()
    ready: set[str] = set()
    for index, operation in enumerate(operations):
        waits = any(t.name in made and t.name not in ready for t in operation.inputs)
        if statuses[index] != MAPPED and not waits:
            found.add(index)
            ready.update(t.name for t in operation.outputs)
    return found


def operation_status(operation: Operation) -> str:
    """Returns what the compiler says of one operation by itself."""
    if operation.custom:
        return UNSUPPORTED_TYPE
    if operation.name not in MAX_VERSIONS:
        return UNSUPPORTED_TYPE if operation.name == "DEQUANTIZE" else UNSUPPORTED_OPERATION
    if operation.version > MAX_VERSIONS[operation.name]:
        return UNSUPPORTED_VERSION
    if not all(size > 0 for t in (*operation.inputs, *operation.outputs) for size in t.shape):
        return DYNAMIC_SHAPE
    if operation.name == "RESIZE_BILINEAR" and not _resizes_precisely(operation):
        return PRECISION_LIMIT
    if operation.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        # Its state, and the weights that it does not have, follow the data.
        operation = replace(operation, inputs=operation.inputs[:1])
    data = [t for t in operation.inputs if not t.constant]
    if any(t.type not in DATA_TYPES for t in (*data, *operation.outputs)):
        return UNSUPPORTED_TYPE
    return MAPPED if all(t.type in CONSTANT_TYPES for t in operation.inputs) else UNSUPPORTED_TYPE


def _resizes_precisely(operation: Operation) -> bool:
    source, result = operation.inputs[0].shape[1:3], operation.outputs[0].shape[1:3]
    return min(source) >= MIN_RESIZED_SIDE and max(result) <= MAX_RESIZED_SIDE
