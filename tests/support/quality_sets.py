"""Hard variants of a converted data set, made by code: few pictures, small objects, one dominant class, 16:9.

The same arguments give the same pictures. Every part of a set is changed in the same way, so that what a detector is
trained on and what it is measured on belong together; only `few` leaves the measured parts as they are.
"""

from __future__ import annotations

import hashlib
import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from atoll_stages.train.dataset import Example, Records
from support.convert_stage import ConvertStage

# Sides that objects of the variant `small` have at an input of 320 pixels.
SMALL_SIDES = (8.0, 32.0)
INPUT = 320
WIDE = 16 / 9
# A box of which less than this is left by a cut goes with what was cut off.
MIN_LEFT = 0.5
JPEG_QUALITY = 92
DOMINANT_PICTURES = 12
# One picture of a part takes many of large objects to be made.
MIN_GRIDS = 12
# COCO counts 100 detections of a picture, so a picture with more objects says nothing of a detector that finds them.
MAX_OBJECTS = 80


@dataclass(frozen=True)
class Parts:
    """The parts of a set; labels are indices of `classes`."""

    classes: tuple[str, ...]
    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def changed(self, change: Callable[[list[Example]], list[Example]]) -> Parts:
        """Returns the set with every part changed."""
        return Parts(self.classes, change(self.train), change(self.validation), change(self.test))


def load(archive: Path) -> Parts:
    """Converts an archive as a run does, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        stage = ConvertStage(Path(folder))
        ended = stage.put(archive.name, archive.read_bytes()).run()
        dataset = ended.dataset()
        found: dict[str, list[Example]] = {}
        for name, part in dataset.splits.items():
            with Records([stage.store / shard.key for shard in part.shards]) as records:
                found[name] = list(records)
    return Parts(dataset.class_names, found["train"], found["validation"], found.get("test", []))


def few(parts: Parts, count: int) -> Parts:
    """Keeps `count` pictures of the train part, chosen by the hash of their names."""
    ordered = sorted(parts.train, key=lambda e: hashlib.sha256(e.name.encode()).digest())
    return replace(parts, train=ordered[:count])


def small(parts: Parts) -> Parts:
    """Puts several pictures side by side into one, as many as it takes for objects of 8 to 32 pixels. Cells stay empty
    where there would be more than MAX_OBJECTS objects."""
    sides = [math.sqrt(float(np.prod(box[2:] - box[:2]))) * INPUT for e in parts.train for box in e.boxes]
    cells = max(1, round(float(np.median(sides)) / math.sqrt(SMALL_SIDES[0] * SMALL_SIDES[1])))
    return parts.changed(lambda examples: grids(examples, cells))


def grids(examples: Sequence[Example], cells: int) -> list[Example]:
    """Returns pictures of `cells` × `cells` places, with examples in as many of them as there may be objects. Each
    example is scaled down to its place.

    Every example comes about four times, and there are MIN_GRIDS pictures at least.
    """
    if not examples:
        return []
    random = np.random.default_rng(len(examples))
    made: list[Example] = []
    placed = 0
    while len(made) < MIN_GRIDS or placed < 4 * len(examples):
        chosen = _chosen(random, examples, cells * cells)
        placed += len(chosen)
        made.append(_grid(chosen, cells, f"grid-{len(made)}"))
    return made


def wide(parts: Parts) -> Parts:
    """Cuts every picture to 16:9 around its middle."""
    return parts.changed(lambda examples: [_cut(e) for e in examples])


def dominant(parts: Parts, rare: Parts) -> Parts:
    """Adds the classes of another set, of which only a dozen pictures are learned from."""
    classes = (*parts.classes, *(name for name in rare.classes if name not in parts.classes))
    added = few(rare, DOMINANT_PICTURES).changed(lambda examples: _relabelled(examples, rare.classes, classes))
    return Parts(
        classes,
        [*parts.train, *added.train],
        [*parts.validation, *added.validation],
        [*parts.test, *added.test],
    )


def variants(name: str, sets: Mapping[str, Parts]) -> dict[str, Callable[[], Parts]]:
    """Returns the variants of the set `name` by name; each is made when it is called."""
    parts = sets[name]
    others = [other for key, other in sets.items() if key != name]
    made: dict[str, Callable[[], Parts]] = {
        "whole": lambda: parts,
        "20": lambda: few(parts, 20),
        "50": lambda: few(parts, 50),
        "100": lambda: few(parts, 100),
        "small": lambda: small(parts),
        "wide": lambda: wide(parts),
    }
    return made | ({"dominant": lambda: dominant(parts, others[0])} if others else {})


def _chosen(random: np.random.Generator, examples: Sequence[Example], cells: int) -> dict[int, Example]:
    """Returns examples by the cell that each is put into, one at least."""
    chosen: dict[int, Example] = {}
    objects = 0
    for cell in random.permutation(cells):
        example = examples[int(random.integers(len(examples)))]
        objects += len(example.labels)
        if chosen and objects > MAX_OBJECTS:
            break
        chosen[int(cell)] = example
    return chosen


def _grid(chosen: Mapping[int, Example], cells: int, name: str) -> Example:
    side = 2 * INPUT
    cell = side // cells
    canvas = Image.new("RGB", (cell * cells, cell * cells))
    boxes, labels = [], []
    for index, example in chosen.items():
        row, column = divmod(index, cells)
        canvas.paste(_picture(example).resize((cell, cell), Image.Resampling.BILINEAR), (column * cell, row * cell))
        boxes.append((example.boxes + np.array([row, column, row, column], np.float32)) / cells)
        labels.append(example.labels)
    return _example(name, canvas, np.concatenate(boxes), np.concatenate(labels))


def _cut(example: Example) -> Example:
    picture = _picture(example)
    width, height = picture.size
    if width / height >= WIDE:
        return example
    kept = round(width / WIDE)
    top = (height - kept) // 2
    low, high = top / height, (top + kept) / height
    boxes = example.boxes.copy()
    boxes[:, [0, 2]] = (np.clip(boxes[:, [0, 2]], low, high) - low) / (high - low)
    left = (boxes[:, 2] - boxes[:, 0]) * (high - low)
    whole = example.boxes[:, 2] - example.boxes[:, 0]
    stays = left >= MIN_LEFT * whole
    cut = picture.crop((0, top, width, top + kept))
    return _example(example.name, cut, boxes[stays], example.labels[stays])


def _relabelled(examples: Sequence[Example], old: Sequence[str], new: Sequence[str]) -> list[Example]:
    table = np.array([new.index(name) for name in old], np.int32)
    return [replace(e, labels=table[e.labels]) for e in examples]


def _picture(example: Example) -> Image.Image:
    with Image.open(io.BytesIO(example.encoded)) as image:
        return image.convert("RGB")


def _example(name: str, picture: Image.Image, boxes: np.ndarray, labels: np.ndarray) -> Example:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=JPEG_QUALITY)
    return Example(
        name, data.getvalue(), picture.width, picture.height, boxes.astype(np.float32), labels.astype(np.int32)
    )
