"""Counts the usable examples: images and boxes by split and class, negatives, tiny boxes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt

from atoll_contract.archive.limits import shown
from atoll_contract.tool_reports import SMALL_PIXELS
from atoll_contract.train_spec import Architecture
from atoll_stages.convert.example_store import ExampleStore
from atoll_stages.convert.split_names import SPLITS, TRAIN

# A shorter side below this share of the image is under 6 pixels at the 320 of the default detector.
TINY_SIDE = 0.02
INPUT_SIDES = tuple(sorted({architecture.side for architecture in Architecture}))
# Fewer boxes of a class in train teach little.
FEW_BOXES = 20


@dataclass
class DatasetStatistics:
    """Counts over all usable examples: by split, by (class, split), of boxes with a short side by class, and of boxes
    below SMALL_PIXELS by the side of the detector's input."""

    images: Counter[str] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    boxes: Counter[tuple[str, str]] = field(default_factory=Counter)
    tiny: Counter[str] = field(default_factory=Counter)
    small: Counter[int] = field(default_factory=Counter)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have images."""
        return tuple(split for split in SPLITS if self.images[split])

    def classes(self) -> list[str]:
        """Returns the classes that have boxes, sorted."""
        return sorted({label for label, _ in self.boxes})

    def boxes_of_class(self, label: str) -> dict[str, int]:
        """Returns the boxes of a class by split, zeros included."""
        return {split: self.boxes[label, split] for split in self.splits}

    def boxes_of_split(self, split: str) -> int:
        return sum(count for (_, where), count in self.boxes.items() if where == split)


def count_examples(store: ExampleStore) -> DatasetStatistics:
    """Counts every usable example; before the split all of them are in train."""
    statistics = DatasetStatistics()
    # Boxes by the number of sides, the smallest first, at which they are small.
    small_at = [0] * (len(INPUT_SIDES) + 1)
    for example in store.examples():
        split = example.split or TRAIN
        statistics.images[split] += 1
        statistics.negatives[split] += not example.boxes
        statistics.boxes.update((label, split) for label, _ in example.boxes)
        for label, (xmin, ymin, xmax, ymax) in example.boxes:
            width, height = xmax - xmin, ymax - ymin
            if width < TINY_SIDE or height < TINY_SIDE:
                statistics.tiny[label] += 1
            small_at[bisect_left(INPUT_SIDES, SMALL_PIXELS / max(sqrt(width * height), 1e-9))] += 1
    for number, side in enumerate(INPUT_SIDES, start=1):
        statistics.small[side] = sum(small_at[number:])
    return statistics


def class_warnings(statistics: DatasetStatistics, classes: Iterable[str]) -> list[str]:
    """Returns warnings about classes that a split lacks, that are rare, or that are mostly tiny."""
    warnings = []
    for label in classes:
        counts, tiny = statistics.boxes_of_class(label), statistics.tiny[label]
        total = sum(counts.values())
        missing = [split for split, count in counts.items() if not count]
        if total and missing:
            warnings.append(f"class {shown(label)} has boxes, but none in {' and '.join(missing)}")
        elif 0 < counts[TRAIN] < FEW_BOXES:
            warnings.append(f"class {shown(label)} has {counts[TRAIN]} boxes to learn from; {FEW_BOXES} are a start")
        if total and tiny > total / 4:
            warnings.append(
                f"class {shown(label)}: {tiny} of {total} boxes are narrower than {TINY_SIDE:.0%} of the picture: an "
                "input of 320 pixels hardly finds them"
            )
    return warnings
