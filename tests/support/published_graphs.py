"""The operations of 14 models that Google published plain and compiled, and how many of them its compiler mapped.

The models are those of `google-coral/test_data`. Their binaries are not here, so the lists are rebuilt. The counts of
MoveNet, the LSTM and the three DeepLabs are those of the published files; those of the other nine, all of whose
operations the compiler mapped, are the architectures'. The kinds of MoveNet's first operation and of the LSTM's
neighbours are stand-ins. The layers between the operations that decide are the architecture's, in a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll_stages.export.flatbuffer import Operation, TensorInfo

Shape = tuple[int, ...]
# Layers and sums of MobileNetV2 up to its last block.
MOBILENET_V2 = (51, 10)
IMAGE = "UINT8"


@dataclass
class Graph:
    """Operations one after the other; each method adds one behind the last."""

    kind: str
    shape: Shape
    operations: list[Operation] = field(default_factory=list)

    def add(
        self, name: str, shape: Shape | None = None, *, kind: str | None = None, version: int = 1, custom: bool = False
    ) -> None:
        last = self.operations[-1].outputs[0] if self.operations else TensorInfo("input", self.kind, self.shape, False)
        self.kind, self.shape = kind or self.kind, shape or self.shape
        made = TensorInfo(f"t{len(self.operations)}", self.kind, self.shape, False)
        self.operations.append(Operation(name, version, custom, (last, *self._constants(name)), (made,)))

    def _constants(self, name: str) -> Iterator[TensorInfo]:
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            yield TensorInfo("weights", self.kind, (8, 3, 3, 8), True)
            yield TensorInfo("bias", "INT32", (8,), True)

    def repeat(self, name: str, times: int, *, version: int = 1) -> None:
        for _ in range(times):
            self.add(name, version=version)

    def mobilenet_v2(self) -> None:
        layers, sums = MOBILENET_V2
        self.repeat("CONV_2D", layers)
        self.repeat("ADD", sums)


@dataclass(frozen=True)
class Published:
    """A model, and what the compiler made of it."""

    name: str
    operations: tuple[Operation, ...]
    mapped: int


def published_graphs() -> Iterator[Published]:
    for share, side in (("0.25", 128), ("0.5", 160), ("0.75", 192)):
        yield Published(f"mobilenet_v1_{share}_{side}_quant", _mobilenet_v1(side, classifies=True), 31)
    yield Published("mobilenet_v1_1.0_224_quant_embedding_extractor", _mobilenet_v1(224, classifies=False), 28)
    for height, width in ((353, 481), (481, 641), (721, 1281)):
        yield Published(
            f"posenet_mobilenet_v1_075_{height}_{width}_quant_decoder", _decoded(height, width, heads=4), 31
        )
    yield Published("bodypix_mobilenet_v1_075_512_512_16_quant_decoder", _decoded(512, 512, heads=6), 33)
    yield Published("split_concat", _split_concat(), 2)
    for name in ("deeplabv3_mnv2_dm05_pascal_quant", "deeplabv3_mnv2_pascal_quant"):
        yield Published(name, _deeplab_v3(), 64)
    yield Published("deeplab_mobilenet_edgetpu_slim_cityscapes_quant", _deeplab_slim(), 82)
    yield Published("movenet_single_pose_lightning_ptq", _movenet(), 98)
    yield Published("keras_lstm_mnist_ptq", _lstm(), 6)


def _mobilenet_v1(side: int, *, classifies: bool) -> tuple[Operation, ...]:
    graph = Graph(IMAGE, (1, side, side, 3))
    graph.add("CONV_2D", (1, side // 2, side // 2, 32))
    for _ in range(13):
        graph.add("DEPTHWISE_CONV_2D")
        graph.add("CONV_2D")
    graph.add("AVERAGE_POOL_2D", (1, 1, 1, 1024))
    if classifies:
        graph.add("CONV_2D", (1, 1, 1, 1001))
        graph.add("RESHAPE", (1, 1001))
        graph.add("SOFTMAX")
    return tuple(graph.operations)


def _decoded(height: int, width: int, *, heads: int) -> tuple[Operation, ...]:
    """A pose or body-part network, whose decoder is an operation of Coral's own."""
    graph = Graph(IMAGE, (1, height, width, 3))
    graph.repeat("CONV_2D", 27 + heads)
    graph.add("PosenetDecoderOp", (1, 10, 17, 2), kind="FLOAT32", custom=True)
    return tuple(graph.operations)


def _split_concat() -> tuple[Operation, ...]:
    graph = Graph(IMAGE, (1, 8, 8, 4))
    graph.add("SPLIT", (1, 8, 8, 2))
    graph.add("CONCATENATION", (1, 8, 8, 4))
    return tuple(graph.operations)


def _deeplab_v3() -> tuple[Operation, ...]:
    graph = Graph(IMAGE, (1, 513, 513, 3))
    graph.mobilenet_v2()
    graph.add("AVERAGE_POOL_2D", (1, 1, 1, 320))
    graph.repeat("CONV_2D", 2)
    graph.add("RESIZE_BILINEAR", (1, 33, 33, 256))
    graph.add("CONCATENATION", (1, 33, 33, 512))
    graph.repeat("CONV_2D", 2)
    graph.repeat("RESIZE_BILINEAR", 2)
    graph.add("RESIZE_BILINEAR", (1, 513, 513, 21))
    graph.add("ARG_MAX", (1, 513, 513), kind="INT64")
    return tuple(graph.operations)


def _deeplab_slim() -> tuple[Operation, ...]:
    graph = Graph(IMAGE, (1, 513, 513, 3))
    graph.repeat("CONV_2D", 75)
    graph.add("AVERAGE_POOL_2D", (1, 1, 1, 256))
    graph.add("TILE", (1, 33, 33, 256))
    graph.add("CONCATENATION")
    graph.repeat("CONV_2D", 3)
    graph.add("RESIZE_BILINEAR", (1, 65, 65, 19))
    graph.add("RESIZE_BILINEAR", (1, 513, 513, 19))
    graph.add("ARG_MAX", (1, 513, 513), kind="INT64")
    return tuple(graph.operations)


def _movenet() -> tuple[Operation, ...]:
    """Its first operation is not for the chip, and neither is what turns its maps into key points."""
    graph = Graph("INT32", (1, 192, 192, 3))
    graph.add("CAST", kind="FLOAT32")
    graph.add("QUANTIZE", kind="INT8")
    # Quantising numbers of 32 bits is no work for the chip either.
    graph.repeat("CONV_2D", 85, version=3)
    for side in (12, 24, 48):
        graph.add("CONV_2D", (1, side // 2, side // 2, 64), version=3)
        graph.add("RESIZE_BILINEAR", (1, side, side, 64), version=2)
        graph.repeat("ADD", 2, version=2)
    graph.add("LOGISTIC", version=2)
    graph.add("DEQUANTIZE", kind="FLOAT32", version=2)
    while len(graph.operations) < 157:
        graph.add("MUL")
    return tuple(graph.operations)


def _lstm() -> tuple[Operation, ...]:
    graph = Graph("INT8", (1, 28, 28))
    graph.add("RESHAPE")
    graph.add("UNIDIRECTIONAL_SEQUENCE_LSTM", (1, 28, 20), version=3)
    lstm = graph.operations[-1]
    state = (TensorInfo("output-state", "INT8", (1, 20), False), TensorInfo("cell-state", "INT16", (1, 20), False))
    graph.operations[-1] = Operation(lstm.name, lstm.version, False, (*lstm.inputs, *state), lstm.outputs)
    graph.add("STRIDED_SLICE", (1, 20))
    graph.add("RESHAPE")
    graph.add("FULLY_CONNECTED", (1, 10), version=4)
    graph.add("SOFTMAX", version=2)
    return tuple(graph.operations)
