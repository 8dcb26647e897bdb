"""Predicts from the file alone which operations the Edge TPU compiler maps to the chip.

The rules are the compiler's documented requirements (static shapes, 8-bit tensors, known operations) and the operation
versions that compiler 16.0 refused for its users (`google-coral/edgetpu` issues 187, 420, 631, 879). The chip runs one
contiguous part of the graph: all operations behind the first one that cannot be mapped stay on the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

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
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 3,
}
# From these versions on the compiler refuses the whole file.
REFUSED_VERSIONS = {"CONV_2D": 6, "QUANTIZE": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "TRANSPOSE_CONV": 4}
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
SECOND_SUBGRAPH = "More than one subgraph is not supported"
# The same in words for people who do not know the compiler.
EXPLANATIONS = {
    MAPPED: "runs on the Edge TPU",
    UNSUPPORTED_TYPE: "runs on the CPU, because it works with other numbers than 8-bit ones",
    DYNAMIC_SHAPE: "runs on the CPU, because the size of its data is not fixed",
    UNSUPPORTED_OPERATION: "runs on the CPU, because the Edge TPU does not know it",
    UNSUPPORTED_VERSION: "runs on the CPU, because the Edge TPU's compiler is older than this version of it",
    SECOND_SUBGRAPH: "runs on the CPU, because an operation before it does",
}


class MappingRow(Document, frozen=True):
    """The number of operations of one name, version and status."""

    name: str
    version: int
    count: int
    status: str


class MappingReport(Document, frozen=True):
    """`edgetpu-report.json`. `refused` lists operations for which the compiler would refuse the file."""

    predicted: bool
    mapped: int
    total: int
    percent: float
    refused: tuple[str, ...]
    fits_on_chip: bool
    rows: tuple[MappingRow, ...]


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
    )


def _statuses(operations: Sequence[Operation]) -> list[str]:
    """Returns the status of each operation; those that depend on an unmapped one would need a second subgraph."""
    unmapped: set[str] = set()
    statuses = []
    for operation in operations:
        status = operation_status(operation)
        if status == MAPPED and any(t.name in unmapped for t in operation.inputs):
            status = SECOND_SUBGRAPH
        if status != MAPPED:
            unmapped.update(t.name for t in operation.outputs)
        statuses.append(status)
    return statuses


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
    data = [t for t in operation.inputs if not t.constant]
    if any(t.type not in DATA_TYPES for t in (*data, *operation.outputs)):
        return UNSUPPORTED_TYPE
    return MAPPED if all(t.type in CONSTANT_TYPES for t in operation.inputs) else UNSUPPORTED_TYPE
