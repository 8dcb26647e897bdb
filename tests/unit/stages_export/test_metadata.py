"""The TFLite metadata of the int8 file: what runtimes read in it, and that the model itself stays as it was."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python import schema_py_generated as schema

from atoll_contract.errors import ModelError
from atoll_contract.images import Resize
from atoll_contract.tflite import read_model
from atoll_stages.export.flatbuffer import operations
from atoll_stages.export.metadata import add_metadata
from support.edge_model import SIDE, colour_detector
from support.tflite_metadata import DetectorMetadata, read_metadata

pytestmark = pytest.mark.timeout(300)

CLASSES = ("Würfel", "red robot")


@pytest.fixture(scope="module")
def plain() -> bytes:
    return colour_detector()


@pytest.fixture(scope="module")
def described(plain: bytes) -> bytes:
    return add_metadata(plain, name="field", labels=CLASSES)


def test_a_reader_learns_tensors_normalization_and_labels(described: bytes) -> None:
    assert read_metadata(described) == DetectorMetadata(
        inputs=("image",),
        outputs=("location", "category", "score", "number of detections"),
        normalization=(127.5, 127.5),
        box_order=(1, 0, 3, 2),
        labels=CLASSES,
    )


def test_the_model_itself_stays_as_it_was(plain: bytes, described: bytes) -> None:
    before, after = read_model(plain), read_model(described)
    assert (after.inputs, after.outputs, after.operators) == (before.inputs, before.outputs, before.operators)
    assert (after.has_metadata, before.has_metadata) == (True, False)
    assert list(operations(described)) == list(operations(plain))
    image = np.random.default_rng(0).integers(0, 255, (1, SIDE, SIDE, 3), np.uint8)
    for wanted, found in zip(_outputs(plain, image), _outputs(described, image), strict=True):
        np.testing.assert_array_equal(found, wanted)


def _outputs(data: bytes, image: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(item["index"]) for item in interpreter.get_output_details()]


def test_weights_keep_their_alignment(plain: bytes, described: bytes) -> None:
    def alignments(data: bytes) -> list[int]:
        model = schema.Model.GetRootAs(data, 0)
        tables = [model.Buffers(k)._tab for k in range(model.BuffersLength())]
        return [tab.Vector(tab.Offset(4)) % 64 for tab in tables if tab.Offset(4)]

    *weights, added = alignments(described)
    assert weights == alignments(plain)
    assert added % 16 == 0


def test_it_costs_little_and_the_bytes_are_the_same_every_time(plain: bytes, described: bytes) -> None:
    assert 0 < len(described) - len(plain) < 4000
    assert add_metadata(plain, name="field", labels=CLASSES) == described


@pytest.mark.parametrize("data", [b"", b"TFL3", b"x" * 64])
def test_other_bytes_are_no_model(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"no \.tflite file"):
        add_metadata(data, name="x", labels=["a"])


def test_a_letterbox_file_says_so_to_atoll_and_to_people(plain: bytes, described: bytes) -> None:
    letterboxed = add_metadata(plain, name="field", labels=CLASSES, resize=Resize.LETTERBOX)
    assert read_model(letterboxed).resize is Resize.LETTERBOX
    assert read_model(described).resize is Resize.SQUASH
    assert read_metadata(letterboxed) == read_metadata(described)
    assert b"keeps its aspect ratio" in letterboxed
    assert b"squashed" in described
    image = np.random.default_rng(0).integers(0, 255, (1, SIDE, SIDE, 3), np.uint8)
    for wanted, found in zip(_outputs(plain, image), _outputs(letterboxed, image), strict=True):
        np.testing.assert_array_equal(found, wanted)
