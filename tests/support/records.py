"""Reading back what convert wrote, with TensorFlow's own code."""

from pathlib import Path
from typing import Any

from atoll_contract.dataset import SplitPart
from support.convert_stage import Ended

Record = dict[str, list[Any]]


def decode(record: bytes) -> Record:
    """A serialised `tf.train.Example` as lists, parsed by TensorFlow's protocol buffers."""
    from tensorflow.core.example.example_pb2 import Example

    features = Example.FromString(record).features.feature
    return {key: list(getattr(value, value.WhichOneof("kind")).value) for key, value in features.items()}


def records_of(store: Path, part: SplitPart) -> list[Record]:
    from atoll_stages.convert.tfrecord import read_records

    found = []
    for shard in part.shards:
        with (store / shard.key).open("rb") as file:
            found += [decode(record) for record in read_records(file, name=shard.name)]
    return found


def examples(ended: Ended) -> list[Record]:
    """Every record of a conversion, part by part."""
    return [record for part in ended.dataset().splits.values() for record in records_of(ended.store, part)]


def edges_of(record: Record) -> list[tuple[float, float, float, float]]:
    """(xmin, ymin, xmax, ymax) of each box."""
    columns = [record[f"image/object/bbox/{edge}"] for edge in ("xmin", "ymin", "xmax", "ymax")]
    return list(zip(*columns, strict=True))
