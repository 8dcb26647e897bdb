"""The predicted Edge TPU mapping, rule by rule."""

from dataclasses import replace

import pytest

from atoll_stages.export.edgetpu_mapping import (
    DYNAMIC_SHAPE,
    MAPPED,
    SECOND_SUBGRAPH,
    UNSUPPORTED_OPERATION,
    UNSUPPORTED_TYPE,
    UNSUPPORTED_VERSION,
    operation_status,
    predict_mapping,
)
from atoll_stages.export.flatbuffer import Operation, TensorInfo


def tensor(
    name: str, kind: str = "INT8", *, shape: tuple[int, ...] = (1, 8, 8, 4), constant: bool = False
) -> TensorInfo:
    return TensorInfo(name, kind, shape, constant)


def convolution(source: str = "a", target: str = "b", *, version: int = 3) -> Operation:
    inputs = (tensor(source), tensor("w", constant=True), tensor("bias", "INT32", shape=(4,), constant=True))
    return Operation("CONV_2D", version, False, inputs, (tensor(target),))


POST = Operation("TFLite_Detection_PostProcess", 1, True, (tensor("b", "FLOAT32"),), (tensor("boxes", "FLOAT32"),))


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (convolution(), MAPPED),
        (convolution(version=6), UNSUPPORTED_VERSION),
        (POST, UNSUPPORTED_TYPE),
        (replace(convolution(), name="TOPK_V2"), UNSUPPORTED_OPERATION),
        (replace(convolution(), outputs=(tensor("b", "FLOAT32"),)), UNSUPPORTED_TYPE),
        (replace(convolution(), outputs=(tensor("b", shape=(-1, 8, 8, 4)),)), DYNAMIC_SHAPE),
        (Operation("DEQUANTIZE", 2, False, (tensor("a"),), (tensor("b", "FLOAT32"),)), UNSUPPORTED_TYPE),
        (Operation("RESIZE_NEAREST_NEIGHBOR", 3, False, (tensor("a"),), (tensor("b"),)), UNSUPPORTED_VERSION),
    ],
)
def test_single_operations(operation: Operation, expected: str) -> None:
    assert operation_status(operation) == expected


def test_what_follows_an_unmapped_operation_stays_on_the_cpu() -> None:
    middle = Operation("TOPK_V2", 1, False, (tensor("b"),), (tensor("c"),))
    report = predict_mapping([convolution("a", "b"), middle, convolution("c", "d")], size=10)
    assert {(row.name, row.status) for row in report.rows} == {
        ("CONV_2D", MAPPED),
        ("TOPK_V2", UNSUPPORTED_OPERATION),
        ("CONV_2D", SECOND_SUBGRAPH),
    }
    assert (report.mapped, report.total, report.percent) == (1, 3, 33.3)


def test_a_refused_version_maps_nothing() -> None:
    report = predict_mapping([convolution(), convolution("b", "c", version=6)], size=10)
    assert report.refused == ("CONV_2D v6",)
    assert report.percent == 0.0


def test_a_file_larger_than_the_chips_memory_does_not_fit() -> None:
    assert predict_mapping([convolution()], size=7_000_000).fits_on_chip
    assert not predict_mapping([convolution()], size=9_000_000).fits_on_chip
