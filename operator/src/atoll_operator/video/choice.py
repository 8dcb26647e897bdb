"""Choosing the frames worth labelling from the figures of all samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from atoll_operator.video.likeness import Gallery
from atoll_operator.video.measure import Measured

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
