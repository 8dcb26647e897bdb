"""The reader of .tflite files: right on good ones, an answer or TfliteError on any others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.images import Resize
from atoll_contract.tflite import METADATA_NAME, PREPROCESSING_NAME, PreprocessingError, TfliteError, read_model
from support.minimal_tflite import CONV_2D, minimal_tflite


def test_inputs_and_operators_are_read() -> None:
    model = read_model(minimal_tflite((CONV_2D, 150, "TFLite_Detection_PostProcess"), shape=(1, 300, 300, 3)))
    assert model.inputs[0].shape == (1, 300, 300, 3)
    assert model.inputs[0].dtype == "uint8"
    assert model.operators == ((3, ""), (150, ""), (32, "TFLite_Detection_PostProcess"))
    assert not model.is_compiled_for_edgetpu
    assert read_model(minimal_tflite(("edgetpu-custom-op",))).is_compiled_for_edgetpu


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 100, b"PK\x03\x04" + b"\0" * 60])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(TfliteError):
        read_model(data)


@settings(max_examples=300)
@given(place=st.integers(0), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_damaged_files_are_read_or_refused(place: int, value: int, cut: int) -> None:
    data = bytearray(minimal_tflite(metadata={PREPROCESSING_NAME: b'{"resize":"letterbox"}'}))
    data[place % len(data)] = value
    try:
        read_model(bytes(data[: len(data) - cut]))
    except TfliteError as error:
        assert str(error)  # noqa: PT017 (either way is fine; anything else is not)


def test_outputs_are_those_of_the_graph() -> None:
    model = read_model(minimal_tflite(outputs=2))
    assert [item.shape for item in model.outputs] == [(1, 320, 320, 3)] * 2
    assert not model.has_metadata


@pytest.mark.parametrize("how", Resize)
def test_a_file_says_how_images_become_its_input(how: Resize) -> None:
    text = f'{{"resize":"{how}"}}'.encode()
    model = read_model(minimal_tflite(metadata={METADATA_NAME: b"other", PREPROCESSING_NAME: text}))
    assert model.resize is how
    assert model.has_metadata


def test_a_file_that_says_nothing_squashes() -> None:
    assert read_model(minimal_tflite()).resize is Resize.SQUASH
    assert read_model(minimal_tflite(metadata={METADATA_NAME: b"other"})).resize is Resize.SQUASH


@pytest.mark.parametrize("text", [b'{"resize":"crop"}', b"", b"\xff", b"[]"])
def test_a_preprocessing_that_nobody_knows_is_no_squash(text: bytes) -> None:
    with pytest.raises(PreprocessingError, match=PREPROCESSING_NAME):
        read_model(minimal_tflite(metadata={PREPROCESSING_NAME: text}))
