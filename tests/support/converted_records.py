"""Reads back the records that convert wrote, with Google's protocol buffers."""

import functools
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from atoll_contract.dataset import SplitPart
from support.convert_stage import Ended

Record = dict[str, list[Any]]


def decode(record: bytes) -> Record:
    """A serialised `tf.train.Example` as lists, parsed by Google's protocol buffers."""
    features = _example_class().FromString(record).features.feature
    return {key: list(getattr(value, value.WhichOneof("kind")).value) for key, value in features.items()}


@functools.cache
def _example_class() -> Any:
    """`tf.train.Example`, from its definition (`tensorflow/core/example/*.proto`): TensorFlow itself takes half a
    minute to import on a busy machine. `test_tfrecord` compares with TensorFlow's own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="atoll.test", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, bool, str], within: Any = file.message_type) -> Any:
        made = within.add(name=name)
        for number, (label, kind, repeated, of) in enumerate(fields, start=1):
            made.field.add(
                name=label,
                number=number,
                type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=f".atoll.test.{of}" if of else None,
            )
        return made

    message("BytesList", ("value", field.TYPE_BYTES, True, ""))
    message("FloatList", ("value", field.TYPE_FLOAT, True, ""))
    message("Int64List", ("value", field.TYPE_INT64, True, ""))
    lists = ("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")
    feature = message("Feature", *((name, field.TYPE_MESSAGE, False, of) for name, of in lists))
    feature.oneof_decl.add(name="kind")
    for item in feature.field:
        item.oneof_index = 0
    features = message("Features", ("feature", field.TYPE_MESSAGE, True, "Features.FeatureEntry"))
    entry = message(
        "FeatureEntry",
        ("key", field.TYPE_STRING, False, ""),
        ("value", field.TYPE_MESSAGE, False, "Feature"),
        within=features.nested_type,
    )
    entry.options.map_entry = True
    message("Example", ("features", field.TYPE_MESSAGE, False, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("atoll.test.Example"))


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
