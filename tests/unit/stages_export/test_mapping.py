"""The predicted Edge TPU mapping, rule by rule."""

from dataclasses import replace

import pytest

from atoll_stages.export.edgetpu_mapping import (
    CHECKED_OPERATIONS,
    DYNAMIC_SHAPE,
    MAPPED,
    PRECISION_LIMIT,
    SECOND_SUBGRAPH,
    UNSUPPORTED_OPERATION,
    UNSUPPORTED_TYPE,
    UNSUPPORTED_VERSION,
    operation_status,
    predict_mapping,
)
from atoll_stages.export.flatbuffer import Operation, TensorInfo
from support.published_graphs import Published, published_graphs


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


PUBLISHED = list(published_graphs())


@pytest.mark.parametrize("published", PUBLISHED, ids=[item.name for item in PUBLISHED])
def test_as_many_operations_map_as_the_compiler_mapped(published: Published) -> None:
    report = predict_mapping(published.operations, size=10)
    assert report.mapped == published.mapped


def test_the_checked_operations_are_those_of_the_published_models() -> None:
    found = {operation.name for item in PUBLISHED for operation in item.operations if not operation.custom}
    assert found >= CHECKED_OPERATIONS
    assert len(PUBLISHED) == 14


def test_what_no_published_model_has_is_named() -> None:
    nearest = Operation("RESIZE_NEAREST_NEIGHBOR", 2, False, (tensor("b"),), (tensor("c"),))
    assert predict_mapping([convolution(), nearest], size=10).unchecked == ("RESIZE_NEAREST_NEIGHBOR",)
    assert predict_mapping([convolution()], size=10).unchecked == ()


@pytest.mark.parametrize(
    ("source", "result", "expected"), [(64, 128, MAPPED), (1, 33, PRECISION_LIMIT), (33, 513, PRECISION_LIMIT)]
)
def test_a_bilinear_resize_maps_at_sizes_that_it_is_exact_for(source: int, result: int, expected: str) -> None:
    given, made = (tensor(name, shape=(1, side, side, 4)) for name, side in (("a", source), ("b", result)))
    assert operation_status(Operation("RESIZE_BILINEAR", 2, False, (given,), (made,))) == expected


def test_an_unmapped_operation_before_all_others_ends_nothing() -> None:
    first = Operation("CAST", 1, False, (tensor("image", "INT32"),), (tensor("a"),))
    report = predict_mapping([first, convolution("a", "b"), convolution("b", "c")], size=10)
    assert (report.mapped, report.total) == (2, 3)


def test_an_unmapped_operation_that_waits_for_the_chip_ends_the_mapping_though_the_first_is_unmapped() -> None:
    first = Operation("CAST", 1, False, (tensor("image", "INT32"),), (tensor("a"),))
    middle = Operation("TOPK_V2", 1, False, (tensor("b"),), (tensor("c"),))
    report = predict_mapping([first, convolution("a", "b"), middle, convolution("c", "d")], size=10)
    assert (report.mapped, report.total) == (1, 4)
