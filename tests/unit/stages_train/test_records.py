"""Random access to TFRecord shards."""

from pathlib import Path

import numpy as np
import pytest

from atoll_contract.errors import IntegrityError
from atoll_stages.train.dataset import Records, parse_record
from support.detection_data import labelled_images, write_shard


def test_records_come_back_in_any_order(tmp_path: Path) -> None:
    written = labelled_images(5)
    shards = [write_shard(tmp_path / "a", written[:3]), write_shard(tmp_path / "b", written[3:])]
    with Records(shards) as records:
        assert len(records) == 5
        for index in (4, 0, 3):
            assert records[index].name == written[index].name
            assert records[index].encoded == written[index].encoded
            np.testing.assert_array_equal(records[index].labels, written[index].labels)
            np.testing.assert_allclose(records[index].boxes, written[index].boxes)
        assert [e.name for e in records[1:3]] == ["1.png", "2.png"]


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "train-00000", labelled_images(2))
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(IntegrityError, match="train-00000 ends inside the record"):
        Records([shard])


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b""])
def test_other_bytes_are_no_example(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_record(data)
