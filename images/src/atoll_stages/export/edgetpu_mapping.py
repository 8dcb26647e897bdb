"""Which operations the Edge TPU compiler will put on the chip: a prediction from the file alone.

The rules are the compiler's documented requirements (static shapes, 8-bit tensors, known operations) and the operation
versions that users of compiler 16.0 saw refused (`google-coral/edgetpu` issues 187, 420, 631, 879). The chip runs one
contiguous part of the graph: whatever follows the first operation that cannot be mapped stays on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atoll_contract.document import Document
from atoll_stages.export.flatbuffer import Operation

# The newest version of each operation that compiler 16.0 is known to take.
NEWEST = {
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
# At newer versions of these the compiler gives up on the whole file.
REFUSED = {"CONV_2D": 6, "QUANTIZE": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "TRANSPOSE_CONV": 4}
QUANTISED = frozenset({"INT8", "UINT8"})
BIAS = frozenset({"INT8", "UINT8", "INT32"})
# Parameters beyond this are streamed from the host at every picture.
CHIP_BYTES = 7_700_000

MAPPED = "Mapped to Edge TPU"
UNSUPPORTED_TYPE = "Operation is working on an unsupported data type"
DYNAMIC = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
UNKNOWN = "Operation not supported"
VERSION = "Operation version not supported"
BEHIND = "More than one subgraph is not supported"


class Row(Document, frozen=True):
    """Operations of one kind and fate, in the compiler's own words."""

    name: str
    version: int
    count: int
    status: str


class MappingReport(Document, frozen=True):
    """`edgetpu-report.json`. `refused` lists what would make the compiler reject the file; it is a prediction."""

    predicted: bool
    mapped: int
    total: int
    percent: float
    refused: tuple[str, ...]
    fits_on_chip: bool
    rows: tuple[Row, ...]


def verdict(operation: Operation) -> str:
    """What the compiler says of one operation, by itself."""
    if operation.custom:
        return UNSUPPORTED_TYPE
    if operation.name not in NEWEST:
        return UNSUPPORTED_TYPE if operation.name == "DEQUANTIZE" else UNKNOWN
    if operation.version > NEWEST[operation.name]:
        return VERSION
    shapes_static = all(all(size > 0 for size in t.shape) for t in (*operation.inputs, *operation.outputs))
    if not shapes_static:
        return DYNAMIC
    data = [t for t in operation.inputs if not t.constant]
    if any(t.type not in QUANTISED for t in (*data, *operation.outputs)):
        return UNSUPPORTED_TYPE
    return MAPPED if all(t.type in BIAS for t in operation.inputs) else UNSUPPORTED_TYPE


def _reachable(operations: Sequence[Operation]) -> list[str]:
    """Verdicts, where operations that depend on an unmapped one are behind it."""
    blocked: set[str] = set()
    verdicts = []
    for operation in operations:
        result = verdict(operation)
        if result == MAPPED and any(t.name in blocked for t in operation.inputs):
            result = BEHIND
        if result != MAPPED:
            blocked.update(t.name for t in operation.outputs)
        verdicts.append(result)
    return verdicts


def predict(operations: Iterable[Operation], *, size: int) -> MappingReport:
    """The prediction for a file of `size` bytes."""
    found = list(operations)
    verdicts = _reachable(found)
    counts: dict[tuple[str, int, str], int] = {}
    for operation, result in zip(found, verdicts, strict=True):
        key = (operation.name, operation.version, result)
        counts[key] = counts.get(key, 0) + 1
    refused = {f"{o.name} v{o.version}" for o in found if o.version >= REFUSED.get(o.name, 1 << 30)}
    mapped = 0 if refused else verdicts.count(MAPPED)
    return MappingReport(
        predicted=True,
        mapped=mapped,
        total=len(found),
        percent=round(100.0 * mapped / max(1, len(found)), 1),
        refused=tuple(sorted(refused)),
        fits_on_chip=size <= CHIP_BYTES,
        rows=tuple(Row(*key[:2], count, key[2]) for key, count in sorted(counts.items())),
    )
