"""Synthetic labelled images for tests of train and export: coloured squares and discs on a grey ground."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from atoll_contract.dataset import ClassCount, Dataset, SplitPart
from atoll_contract.document import to_json
from atoll_contract.stage_result import Artifact
from atoll_contract.store.directory import DirStore
from atoll_stages.convert.tfrecord import bytes_feature, encode_example, float_feature, int64_feature, write_records
from atoll_stages.train.dataset import Example

CLASSES = ("square", "disc")
COLOURS = ((220, 40, 40), (40, 60, 220))


def labelled_image(seed: int, *, size: tuple[int, int] = (96, 72)) -> Example:
    """One image of (width, height) with a square and a disc, the same for the same seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, (128, 128, 128))
    draw = ImageDraw.Draw(image)
    boxes = []
    for label in range(len(CLASSES)):
        side = int(random.integers(size[1] // 4, size[1] // 2))
        left, top = int(random.integers(0, size[0] - side)), int(random.integers(0, size[1] - side))
        shape = (left, top, left + side, top + side)
        (draw.rectangle if label == 0 else draw.ellipse)(shape, fill=COLOURS[label])
        boxes.append((top / size[1], left / size[0], (top + side) / size[1], (left + side) / size[0]))
    out = io.BytesIO()
    image.save(out, "PNG")
    return Example(
        name=f"{seed}.png",
        encoded=out.getvalue(),
        width=size[0],
        height=size[1],
        boxes=np.array(boxes, np.float32),
        labels=np.arange(len(CLASSES), dtype=np.int32),
    )


def labelled_images(count: int, *, first: int = 0) -> list[Example]:
    return [labelled_image(first + i) for i in range(count)]


def encoded(example: Example) -> bytes:
    """The example as convert writes it; labels there count from 1."""
    axes = {axis: example.boxes[:, i].tolist() for i, axis in enumerate(("ymin", "xmin", "ymax", "xmax"))}
    return encode_example(
        {
            "image/encoded": bytes_feature(example.encoded),
            "image/format": bytes_feature(b"png"),
            "image/filename": bytes_feature(example.name.encode()),
            "image/width": int64_feature([example.width]),
            "image/height": int64_feature([example.height]),
            **{f"image/object/bbox/{axis}": float_feature(values) for axis, values in axes.items()},
            "image/object/class/label": int64_feature((example.labels + 1).tolist()),
            "image/object/class/text": bytes_feature(*(CLASSES[label].encode() for label in example.labels)),
        }
    )


def write_shard(path: Path, examples: list[Example]) -> Path:
    with path.open("wb") as file:
        write_records(file, [encoded(example) for example in examples])
    return path


def store_dataset(store: DirStore, folder: Path, *, train: int = 8, validation: int = 4) -> Artifact:
    """A converted dataset in the store; the artifact of its dataset.json."""
    prefix = "cache/local/datasets/abc/"

    def put(name: str, data: bytes) -> Artifact:
        info = store.put(prefix + name, data)
        return Artifact(name, info.key, hashlib.sha256(data).hexdigest(), len(data))

    parts = {}
    for split, count, first in (("train", train, 0), ("validation", validation, 1000)):
        shard = write_shard(folder / f"{split}.tfrecord", labelled_images(count, first=first))
        artifact = put(f"{split}-00000.tfrecord", shard.read_bytes())
        parts[split] = SplitPart(pictures=count, boxes=2 * count, negatives=0, shards=(artifact,) if count else ())
    counts = {split: part.pictures for split, part in parts.items()}
    dataset = Dataset(
        digest="abc",
        sources=(),
        classes=tuple(ClassCount(id=i, name=name, boxes=counts) for i, name in enumerate(CLASSES, start=1)),
        splits=parts,
        label_map=put("map.pbtxt", b'item {\n\nid: 1\n\nname: "square"\n}\n'),
        split_by="hash",
    )
    artifact = put("dataset.json", to_json(dataset))
    return Artifact("dataset", artifact.key, artifact.sha256, artifact.size)


def encode_boxes(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Codes corner boxes against centred anchors (…, 4): what `decode_boxes` inverts."""
    from atoll_stages.train.anchors import BOX_SCALES

    center, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    offset = (center - anchors[..., :2]) / anchors[..., 2:]
    codes: np.ndarray = np.concatenate([offset, np.log(size / anchors[..., 2:])], axis=-1)
    return codes * np.array(BOX_SCALES, np.float32)
