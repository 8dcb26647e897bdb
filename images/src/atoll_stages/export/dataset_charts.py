"""What the labels are like: how many there are of each class, and how large the boxes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from atoll_contract.dataset import Dataset
from atoll_stages.export.charts import Axes, figure
from atoll_stages.export.colors import class_color
from atoll_stages.train.dataset import Example, evenly_spaced
from atoll_stages.train.evaluate import SMALL_AREA

# Of so many images the boxes are drawn, and so many boxes of them.
MAX_IMAGES, MAX_BOXES = 400, 800


@dataclass(frozen=True)
class LabelCount:
    """The labels of one class, in all parts and for training; `percent` is relative to the class with the most."""

    name: str
    color: str
    total: int
    training: int
    percent: float


def label_counts(dataset: Dataset) -> list[LabelCount]:
    """Returns the labels of each class, in the order of the label map."""
    totals = [sum(item.boxes.values()) for item in dataset.classes]
    largest = max([1, *totals])
    return [
        LabelCount(item.name, class_color(index), total, item.boxes.get("train", 0), 100.0 * total / largest)
        for index, (item, total) in enumerate(zip(dataset.classes, totals, strict=True))
    ]


def box_size_chart(examples: Sequence[Example], classes: Sequence[str], *, side: int) -> Markup:
    """Returns width and height of the boxes in percent of the image; `side` is the network's input side in pixels."""
    axes = Axes("width of the box, % of the image", "Box sizes in the training part: height, %", (0, 100), (0, 100))
    found = [
        (int(label), 100.0 * float(box[3] - box[1]), 100.0 * float(box[2] - box[0]))
        for example in evenly_spaced(examples, MAX_IMAGES)
        for label, box in zip(example.labels, example.boxes, strict=True)
    ]
    shown = evenly_spaced(found, MAX_BOXES) if found else []
    dot = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"><title>{}</title></circle>')
    dots = [
        dot.format(
            *axes.to_pixels(width, height), class_color(label), f"{classes[label]}: {width:.0f} × {height:.0f} %"
        )
        for label, width, height in shown
    ]
    present = sorted({label for label, _, _ in shown})
    return figure(
        axes,
        [_small_region(axes, side), *dots],
        [(class_color(label), classes[label]) for label in present],
        note=f"The grey corner is below {round(SMALL_AREA**0.5)} pixels of the network's input, where objects are hard "
        "to find.",
    )


def _small_region(axes: Axes, side: int) -> Markup:
    share = min(100.0, 100.0 * float(np.sqrt(SMALL_AREA)) / side)
    (left, top), (right, bottom) = axes.to_pixels(0, share), axes.to_pixels(share, 0)
    region = Markup('<rect class="small" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>')
    return region.format(left, top, right - left, bottom - top)
