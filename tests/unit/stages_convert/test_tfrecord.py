"""The TFRecord files that convert writes without TensorFlow, read by TensorFlow."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.errors import DatasetError
from atoll_stages.convert.tfrecord import (
    bytes_feature,
    decode_example,
    encode_example,
    float_feature,
    int64_feature,
    read_records,
    write_records,
)
from support.archives import packed, supervisely
from support.convert_stage import ConvertStage
from support.converted_records import decode

# The keys of seed-formats §3.3, and the one that the seed lacked.
KEYS = {
    "image/height",
    "image/width",
    "image/filename",
    "image/source_id",
    "image/key/sha256",
    "image/encoded",
    "image/format",
    "image/object/bbox/xmin",
    "image/object/bbox/xmax",
    "image/object/bbox/ymin",
    "image/object/bbox/ymax",
    "image/object/class/text",
    "image/object/class/label",
}


@given(
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), max_size=9),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9),
)
def test_features_read_back(texts: list[bytes], numbers: list[float], integers: list[int]) -> None:
    record = encode_example({"b": bytes_feature(*texts), "f": float_feature(numbers), "i": int64_feature(integers)})
    assert decode(record) == {"b": texts, "f": numbers, "i": integers}
    assert decode_example(record) == {"b": texts, "f": numbers, "i": integers}


@given(st.data())
def test_a_damaged_record_is_an_error_or_another_record(data: st.DataObject) -> None:
    whole = encode_example(
        {"b": bytes_feature(b"picture"), "f": float_feature([0.5, 1.0]), "i": int64_feature([3, -1, 70_000])}
    )
    damaged = bytearray(whole)
    index = data.draw(st.integers(0, len(whole) - 1))
    damaged[index] ^= data.draw(st.integers(1, 255))
    try:
        features = decode_example(bytes(damaged[: data.draw(st.integers(0, len(whole)))]))
    except ValueError:
        return
    assert all(len(values) <= len(whole) for values in features.values())


def test_lists_that_are_not_packed_are_read() -> None:
    """Old writers put each number into a field of its own."""
    entry = b"\x0a\x01f" + _message(2, _message(2, b"\x0d\x00\x00\x00\x3f" * 2))
    other = b"\x0a\x01i" + _message(2, _message(3, b"\x08\x03\x08\x04"))
    record = _message(1, _message(1, entry) + _message(1, other))
    assert decode_example(record) == decode(record) == {"f": [0.5, 0.5], "i": [3, 4]}


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.timeout(180)
def test_tensorflow_reads_the_shards_of_a_conversion(stage: ConvertStage) -> None:
    import tensorflow as tf
    from tensorflow.core.example.example_pb2 import Example

    ended = stage.put("x.tar", packed(supervisely(6, labels=["a", "b c"]), ".tar")).run()
    dataset = ended.dataset()
    for part in dataset.splits.values():
        paths = [str(ended.store / shard.key) for shard in part.shards]
        records = [record.numpy() for record in tf.data.TFRecordDataset(paths)]
        assert len(records) == part.pictures
        for record in records:
            features = decode(record)
            theirs = Example.FromString(record).features.feature
            assert {
                key: list(getattr(value, value.WhichOneof("kind")).value) for key, value in theirs.items()
            } == features
            assert set(features) == KEYS
            assert features["image/format"] == [b"jpeg"]
            image = tf.io.decode_jpeg(features["image/encoded"][0])
            assert image.shape == (features["image/height"][0], features["image/width"][0], 3)
            assert features["image/object/class/text"] == [b"a", b"b c"]
            assert features["image/object/class/label"] == [1, 2]


def test_a_negative_has_empty_lists(stage: ConvertStage) -> None:
    record = encode_example({"f": float_feature([]), "i": int64_feature([]), "b": bytes_feature()})
    assert decode(record) == {"f": [], "i": [], "b": []}


def framed(*records: bytes) -> bytes:
    buffer = io.BytesIO()
    assert write_records(buffer, records) == len(records)
    return buffer.getvalue()


@pytest.mark.timeout(180)
def test_tensorflow_reads_the_frames(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(b"", b"one", b"2" * 70_000))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == [b"", b"one", b"2" * 70_000]
    with path.open("rb") as file:
        assert list(read_records(file, name="a")) == [b"", b"one", b"2" * 70_000]


@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    frames = bytearray(framed(b"first", b"second record", b"third"))
    frames[data.draw(st.integers(0, len(frames) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DatasetError, match=r"record \d "):
        list(read_records(io.BytesIO(frames), name="a.tfrecord"))


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 14, 20])
def test_cut_off_file_is_found(cut: int) -> None:
    with pytest.raises(DatasetError, match=r"a.tfrecord: record 1 is cut off"):
        list(read_records(io.BytesIO(framed(b"first", b"second")[: 21 + cut]), name="a.tfrecord"))
