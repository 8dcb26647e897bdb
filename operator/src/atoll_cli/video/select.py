"""Selects the frames worth labelling: those that are not blurred and differ from each other.

The blur of an image is a number from 0 (sharp) to 1. It follows Crété-Roffet, Dolmière, Ladret and Nicolas, "The blur
effect: perception and estimation with a new no-reference perceptual blur metric" (SPIE 6492, 2007): blur the image once
more and measure how much of the difference between neighbours is lost. A sharp image loses nearly all of it, a blurred
one little, whatever the light. Unlike in the paper, differences as small as a sensor's noise count for nothing: noise
is always sharp.
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
# A smaller difference, of 255 levels, is noise.
NOISE = 3.0
# An image with a smaller mean difference between neighbours shows nothing.
MIN_MEAN_DIFFERENCE = 0.05

# The blur of a video's sharp frames is that of its sharpest fifth: how sharp that is depends on lens and scene.
SHARPEST_PERCENT = 20
# A video that is blurred from end to end must not set its own limit: it may be this much above the sharp frames of all
# videos of the call, and never above the blur that no sharp scene was seen to have (photographs, drawn scenes,
# microscope images: up to 0.54).
MAX_ABOVE_OVERALL = 0.1
MAX_SHARP_BLUR = 0.55


def blur(gray: NDArray[Any]) -> float:
    """The blur of a gray image (rows, columns), in the direction that suffers most; 1 if it shows nothing.

    Smearing in one direction, as by a turning robot, leaves the other sharp: hence the maximum of the two.
    """
    found = [value for value in (_blur_along_rows(gray), _blur_along_rows(gray.T)) if value is not None]
    return max(found, default=1.0)


def _blur_along_rows(gray: NDArray[Any]) -> float | None:
    """The blur from row to row; None if nothing differs."""
    import numpy as np

    levels = np.asarray(gray, np.float32)
    padded = np.pad(levels, ((WINDOW // 2 + 1, WINDOW // 2), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    again = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    before = np.abs(np.diff(levels, axis=0))
    counted = before > NOISE
    lost = np.maximum(0, before - np.abs(np.diff(again, axis=0)))
    total = float(before[counted].sum())
    return None if total <= MIN_MEAN_DIFFERENCE * before.size else (total - float(lost[counted].sum())) / total


@dataclass(frozen=True)
class ImageDifference:
    """The name of a kept image, and the share of cells (0 to 1) in which another image differs from it."""

    name: str
    change: float


class KeptImages:
    """The images kept so far, of all videos: a passage that is repeated in another video is found, too."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._cells: NDArray[Any] | None = None

    def nearest(self, cells: NDArray[Any]) -> ImageDifference | None:
        """The kept image that differs least from this one, gray `CELLS` × `CELLS`; None while there is none."""
        if not self._names or self._cells is None:
            return None
        import numpy as np

        shares = changes(self._cells[: len(self._names)], centred(cells))
        best = int(np.argmin(shares))
        return ImageDifference(self._names[best], float(shares[best]))

    def add(self, name: str, cells: NDArray[Any]) -> None:
        """Remember an image that is kept."""
        import numpy as np

        if self._cells is None:
            self._cells = np.empty((256, CELLS * CELLS), np.int16)
        if len(self._names) == len(self._cells):
            self._cells = np.concatenate([self._cells, np.empty_like(self._cells)])
        self._cells[len(self._names)] = centred(cells)
        self._names.append(name)


@dataclass(frozen=True)
class SampleFigures:
    """A sample without its image: number, index and time as in `Sample`, its blur, and its gray cells."""

    number: int
    index: int
    seconds: float
    blur: float
    cells: NDArray[Any]


def measure(sample: Sample) -> SampleFigures:
    """The figures of a sample."""
    frame = sample.frame
    height = max(16, frame.height * BLUR_WIDTH // frame.width)
    small = frame.reformat(width=BLUR_WIDTH, height=height, format="gray", interpolation="AREA").to_ndarray()
    cells = frame.reformat(width=CELLS, height=CELLS, format="gray", interpolation="AREA").to_ndarray()
    return SampleFigures(sample.number, sample.index, sample.seconds, blur(small), cells)


class SampleOutcome(StrEnum):
    """What became of a sample."""

    KEPT = "kept"
    BLURRED = "blurred"
    DUPLICATE = "near-duplicate"


@dataclass(frozen=True)
class Thresholds:
    """`blur`: how much more blurred than the sharp frames a sample may be; `change`: the share of the image in which it
    must differ from all kept ones."""

    blur: float = 0.2
    change: float = 0.01


@dataclass(frozen=True)
class Selection:
    """The outcome for a sample, and the kept image nearest to it."""

    outcome: SampleOutcome
    nearest: ImageDifference | None = None


class SampleSelector:
    """Selects among the samples of one video after the other; each is compared with all that were kept before."""

    def __init__(self, thresholds: Thresholds, videos: Sequence[Sequence[SampleFigures]]) -> None:
        self.thresholds = thresholds
        self._overall = _sharp_blur([sample for video in videos for sample in video], limit=MAX_SHARP_BLUR)
        self._kept = KeptImages()

    def blur_limit(self, video: Sequence[SampleFigures]) -> float:
        """The blur above which samples of this video are dropped."""
        limit = min(MAX_SHARP_BLUR, self._overall + MAX_ABOVE_OVERALL)
        return _sharp_blur(video, limit=limit) + self.thresholds.blur

    def select(self, name: str, sample: SampleFigures, *, blur_limit: float) -> Selection:
        """Decides on a sample; one that is kept is remembered as `name`."""
        if sample.blur > blur_limit or sample.blur >= 1:
            return Selection(SampleOutcome.BLURRED)
        nearest = self._kept.nearest(sample.cells)
        if nearest is not None and nearest.change < self.thresholds.change:
            return Selection(SampleOutcome.DUPLICATE, nearest)
        self._kept.add(name, sample.cells)
        return Selection(SampleOutcome.KEPT, nearest)


def _sharp_blur(samples: Sequence[SampleFigures], *, limit: float) -> float:
    import numpy as np

    # An image without detail shows nothing of the lens.
    seen = [sample.blur for sample in samples if sample.blur < 1]
    return min(limit, float(np.percentile(seen, SHARPEST_PERCENT))) if seen else limit
