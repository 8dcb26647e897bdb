"""Tells the frames of a video, which stay together in a split, from photographs that merely have numbers.

Frames that follow each other look alike; photographs that follow each other look as different as any two of them.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from atoll_contract.archive.members import UPLOAD_PREFIX, stem_and_suffix
from atoll_stages.convert.split_table import NumberedExample, SplitTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Grey = NDArray[np.int16]

FRAMES_PER_GROUP = 50
# Neighbours of a video differ by less than this share of what any two of its frames do: by .57 at a robot's camera that
# saved one frame in a second; with photographs .97 to 1.02 of it, on three public sets.
_VIDEO_SHARE = 0.8
# A camera that stands still: all frames differ by noise and small objects (steps of 255, of 16×16 grey thumbnails).
_STILL_STEPS = 6.0
# Photographs that one press of the button took differ by less than this share.
_BURST_SHARE = 0.4
# With fewer pairs of neighbours, or fewer pictures to compare them with, the numbers alone decide.
_MIN_PAIRS = 8
_MIN_IMAGES = 12
# With so many pictures after it, in an order that has nothing to do with what they show, each picture is compared.
_RANDOM_PAIRS = 3

_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)
# Roboflow writes `note_12_jpg.rf.<hash>.jpg`, one hash for each augmented copy of note_12.jpg.
_ROBOFLOW = re.compile(r"_(?:jpg|jpeg|png|webp)\.rf\.[0-9a-fA-F]+$")


def series_of(name: str) -> str:
    """Returns what the file names of one video have in common, with their folder; empty for a name without a number."""
    stem, number = _stem_and_number(name)
    return "" if number is None else f"{name.rpartition('/')[0] or '.'}/{stem}"


def frame_of(name: str) -> int:
    """Returns the number in a file name, 0 where there is none."""
    return _stem_and_number(name)[1] or 0


def frame_group(name: str) -> str:
    """Returns the group of a frame by its file name: the stem without the frame's number, and the number ÷ 50."""
    stem, number = _stem_and_number(name)
    return stem if number is None else f"{stem}/{number // FRAMES_PER_GROUP}"


def photograph_group(name: str, number: int) -> str:
    """Returns the group of a photograph: itself, or the one with `number` that begins its burst."""
    return f"{_stem_and_number(name)[0]}={number}"


@lru_cache(maxsize=16)  # The three of a picture are asked for one after the other.
def _stem_and_number(name: str) -> tuple[str, int | None]:
    stem = UPLOAD_PREFIX.sub("", _ROBOFLOW.sub("", stem_and_suffix(name)[0]))
    found = _NUMBERED.match(stem)
    if found is None:
        return stem, None
    before, number, after = found.groups()
    # A longer number is an id, not a frame's number; its last digits are enough.
    return f"{before}#{after}", int(number[-18:])


def group_frames(table: SplitTable) -> None:
    """Sets the group of every example: by its name, and by itself where its series is no video."""
    table.set_groups(frame_group, series_of, frame_of)
    of_series = _random_differences(table.by_series_at_random())
    of_source = _random_differences(table.by_source_at_random())
    for (source, series), found in _neighbours(table, of_series, of_source).items():
        if found.are_photographs():
            table.set_single_groups(source, series, photograph_group, found.bursts)


@dataclass
class _Mean:
    """A mean over `count` differences among `images` pictures."""

    images: int = 0
    count: int = 0
    total: float = 0.0

    def add(self, difference: float) -> None:
        self.count += 1
        self.total += difference

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else 0.0


class _Neighbours(_Mean):
    """The differences of neighbours in one series, and of `random` pairs, None where there are too few pictures.

    `bursts` has the examples that look like the one before, with the number that begins the burst.
    """

    def __init__(self, random: float | None) -> None:
        super().__init__()
        self.random = random
        self.bursts: list[tuple[int, int]] = []

    def are_photographs(self) -> bool:
        if self.random is None or self.count < _MIN_PAIRS:
            return False
        return self.value > max(_VIDEO_SHARE * self.random, _STILL_STEPS)


def _random_differences(
    examples: Iterable[tuple[int, str, bytes]],
) -> dict[tuple[int, str], _Mean]:
    """Returns the mean difference of pictures by their source and series, which follow each other at random."""
    found: dict[tuple[int, str], _Mean] = {}
    latest: deque[Grey] = deque(maxlen=_RANDOM_PAIRS)
    for source, series, thumbnail in examples:
        if (source, series) not in found:
            latest.clear()
        mean = found.setdefault((source, series), _Mean())
        grey = _grey(thumbnail)
        mean.images += 1
        for other in latest:
            mean.add(_difference(grey, other))
        latest.append(grey)
    return found


def _neighbours(
    table: SplitTable, of_series: dict[tuple[int, str], _Mean], of_source: dict[tuple[int, str], _Mean]
) -> dict[tuple[int, str], _Neighbours]:
    found: dict[tuple[int, str], _Neighbours] = {}
    for one, other in _pairs(table.by_series()):
        key = other.source, other.series
        if key not in found:
            wide_enough = (mean for mean in (of_series[key], of_source[other.source, ""]) if _is_wide_enough(mean))
            found[key] = _Neighbours(next((mean.value for mean in wide_enough), None))
        neighbours = found[key]
        difference = _difference(_grey(one.thumbnail), _grey(other.thumbnail))
        neighbours.add(difference)
        if neighbours.random is not None and difference <= _BURST_SHARE * neighbours.random:
            begun = neighbours.bursts and neighbours.bursts[-1][0] == one.id
            first = neighbours.bursts[-1][1] if begun else one.frame
            if other.frame - first < FRAMES_PER_GROUP:
                neighbours.bursts.append((other.id, first))
    return found


def _is_wide_enough(mean: _Mean) -> bool:
    return mean.images >= _MIN_IMAGES


def _pairs(examples: Iterable[NumberedExample]) -> Iterator[tuple[NumberedExample, NumberedExample]]:
    """Yields the examples that follow each other in a series; of those with one number (copies) the first counts."""
    before: NumberedExample | None = None
    for example in examples:
        if before is not None and (before.source, before.series) == (example.source, example.series):
            if before.frame == example.frame:
                continue
            if before.frame // FRAMES_PER_GROUP == example.frame // FRAMES_PER_GROUP:
                yield before, example
        before = example


def _grey(thumbnail: bytes) -> "Grey":
    import numpy as np

    return np.frombuffer(thumbnail, dtype=np.uint8).astype(np.int16)


def _difference(one: "Grey", other: "Grey") -> float:
    import numpy as np

    # The mean, without the half of its time that numpy's own spends on kinds of arrays.
    return float(np.add.reduce(abs(one - other), dtype=np.int64)) / one.size
