"""How blurred a picture is, from 0 (sharp) to 1.

The measure follows Crété-Roffet, Dolmière, Ladret and Nicolas, "The blur effect: perception and estimation with a new
no-reference perceptual blur metric" (SPIE 6492, 2007): blur the picture once more and see how much of the difference
between neighbours is lost. A sharp picture loses nearly all of it, a blurred one little, whatever its light. Unlike
there, differences as small as a sensor's noise count for nothing: noise is always sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from atoll_cli.video.reader import Sample
from atoll_contract.images import CELLS, centred, changes

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Pixels of width at which blur is measured: noise averages out, and what is sharp here is sharp enough for a detector
# that sees 300 pixels.
BLUR_WIDTH = 120
WINDOW = 5
# Of 255 levels: less is noise.
NOISE = 3.0
# A difference between neighbours, on average, below which there is nothing to be seen.
NOTHING = 0.05


def blur(gray: NDArray[Any]) -> float:
    """The blur of a gray picture (rows, columns), in the direction that suffers most; 1 where nothing is to be seen.

    Smearing in one direction, as by a turning robot, leaves the other sharp: hence the worse of the two.
    """
    found = [value for value in (_along_rows(gray), _along_rows(gray.T)) if value is not None]
    return max(found, default=1.0)


def _along_rows(gray: NDArray[Any]) -> float | None:
    """The blur from row to row; None where nothing differs."""
    import numpy as np

    levels = np.asarray(gray, np.float32)
    padded = np.pad(levels, ((WINDOW // 2 + 1, WINDOW // 2), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    again = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    before = np.abs(np.diff(levels, axis=0))
    counted = before > NOISE
    lost = np.maximum(0, before - np.abs(np.diff(again, axis=0)))
    total = float(before[counted].sum())
    return None if total <= NOTHING * before.size else (total - float(lost[counted].sum())) / total


@dataclass(frozen=True)
class Likeness:
    """The kept frame that is most like another, and the share of cells (0 to 1) in which they differ."""

    name: str
    change: float


class Gallery:
    """The frames kept so far, of all videos: a passage that comes again is known from the first time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._cells: NDArray[Any] | None = None

    def nearest(self, cells: NDArray[Any]) -> Likeness | None:
        """The kept frame that differs least from this one, gray `CELLS` × `CELLS`; None while there is none."""
        if not self._names or self._cells is None:
            return None
        shares = changes(self._cells[: len(self._names)], centred(cells))
        best = int(shares.argmin())
        return Likeness(self._names[best], float(shares[best]))

    def add(self, name: str, cells: NDArray[Any]) -> None:
        """Remember a frame that is kept."""
        import numpy as np

        if self._cells is None:
            self._cells = np.empty((256, CELLS * CELLS), np.int16)
        if len(self._names) == len(self._cells):
            self._cells = np.concatenate([self._cells, np.empty_like(self._cells)])
        self._cells[len(self._names)] = centred(cells)
        self._names.append(name)


@dataclass(frozen=True)
class Measured:
    """A sample without its picture: number, place and time as in `Sample`, its blur, and its cells (see likeness)."""

    number: int
    index: int
    seconds: float
    blur: float
    cells: NDArray[Any]


def measured(sample: Sample) -> Measured:
    """The figures of a sample."""
    frame = sample.frame
    height = max(16, frame.height * BLUR_WIDTH // frame.width)
    small = frame.reformat(width=BLUR_WIDTH, height=height, format="gray", interpolation="AREA").to_ndarray()
    cells = frame.reformat(width=CELLS, height=CELLS, format="gray", interpolation="AREA").to_ndarray()
    return Measured(sample.number, sample.index, sample.seconds, blur(small), cells)


# The blur that a video's sharp frames have is that of its sharpest fifth: how sharp that is, lens and scene decide.
SHARPEST = 20
# But a video that is blurred from end to end must not set its own measure: it is held against all videos of the call,
# and against the blur that no sharp scene was seen to have (photographs, drawn scenes, microscope pictures: to 0.54).
ABOVE_ALL = 0.1
SHARP_AT_MOST = 0.55


class Fate(StrEnum):
    """What became of a sample."""

    KEPT = "kept"
    BLURRED = "blurred"
    DUPLICATE = "near-duplicate"


@dataclass(frozen=True)
class Thresholds:
    """`blur`: so much above that of sharp frames is too much; `change`: the share of the picture that must differ."""

    blur: float = 0.2
    change: float = 0.01


@dataclass(frozen=True)
class Verdict:
    """The fate of a sample, and the kept frame nearest to it with the share of the picture that differs."""

    fate: Fate
    change: float | None = None
    like: str = ""


class Chooser:
    """Judges the samples of one video after the other; each is compared with all that were kept before."""

    def __init__(self, thresholds: Thresholds, videos: Sequence[Sequence[Measured]]) -> None:
        self.thresholds = thresholds
        self._overall = _sharp([sample for video in videos for sample in video], at_most=SHARP_AT_MOST)
        self._gallery = Gallery()

    def blur_limit(self, video: Sequence[Measured]) -> float:
        """The blur above which samples of this video are dropped."""
        return _sharp(video, at_most=min(SHARP_AT_MOST, self._overall + ABOVE_ALL)) + self.thresholds.blur

    def judge(self, name: str, sample: Measured, *, blur_limit: float) -> Verdict:
        """The verdict on a sample; one that is kept is remembered as `name`."""
        if sample.blur > blur_limit or sample.blur >= 1:
            return Verdict(Fate.BLURRED)
        nearest = self._gallery.nearest(sample.cells)
        if nearest is not None and nearest.change < self.thresholds.change:
            return Verdict(Fate.DUPLICATE, nearest.change, nearest.name)
        self._gallery.add(name, sample.cells)
        if nearest is None:
            return Verdict(Fate.KEPT)
        return Verdict(Fate.KEPT, nearest.change, nearest.name)


def _sharp(samples: Sequence[Measured], *, at_most: float) -> float:
    import numpy as np

    # What shows nothing at all says nothing of the lens.
    seen = [sample.blur for sample in samples if sample.blur < 1]
    return min(at_most, float(np.percentile(seen, SHARPEST))) if seen else at_most
