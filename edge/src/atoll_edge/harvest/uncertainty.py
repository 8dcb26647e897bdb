"""How unsure the model is of a frame.

Doubt is counted in boxes: about how many of a frame's boxes a person would have to add, remove or confirm. A detection
whose score stands at its class's threshold counts 1 (the model might as well have said the opposite), one that is
`BAND` or more away from it counts 0, linearly between. This is margin sampling, with the threshold as the border that
decides what the robot sees; the margins of a frame are added up, as a label pays more where it settles more boxes
(sum aggregation in Brust, Käding and Denzler, "Active Learning for Deep Object Detection", 2019). What a detector
misses with no score at all shows in no margin; a part of it shows in time: an object that comes or goes between two
frames of a scene that hardly changed counts 1 as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_contract.harvest import Cause
from atoll_contract.images import CELLS, centred, changes
from atoll_contract.release import Detection
from atoll_edge.camera.source import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Scores of int8 models come in steps of 1/256 and are calibrated by nobody: narrower would be guesswork.
BAND = 0.2
# Two frames of which more than this share of the picture differs are no longer one scene for `Flicker`.
SAME_SCENE = 0.1
SAME_OBJECT = 0.3
# What enters or leaves does so at the border: that is no flicker. Relative to the picture.
BORDER = 0.02


@dataclass(frozen=True)
class Doubt:
    """`boxes` as the module says; `cause` is what contributed most."""

    boxes: float
    cause: Cause


def margin_doubt(detections: Sequence[Detection], thresholds: Sequence[float]) -> float:
    """The doubt in the scores. A class that the label map lacks counts nothing."""
    known = (item for item in detections if 0 <= item.class_id < len(thresholds))
    return sum(max(0.0, 1.0 - abs(item.score - thresholds[item.class_id]) / BAND) for item in known)


class Flicker:
    """Remembers one frame, and says what came or went since."""

    def __init__(self) -> None:
        self._digest = ""
        self._cells: NDArray[Any] | None = None
        self._seen: tuple[Detection, ...] = ()

    def count(self, digest: str, cells: "NDArray[Any]", seen: tuple[Detection, ...]) -> int:
        """Objects (`seen`: at or above their thresholds) without a partner in the frame before, and the other way
        round; 0 where that was another scene, or another model's (`digest`)."""
        before, known = self._seen, self._cells
        same = digest == self._digest and known is not None and float(changes(known, cells)) <= SAME_SCENE
        self._digest, self._cells, self._seen = digest, cells, seen
        if not same:
            return 0
        return _unmatched(before, seen) + _unmatched(seen, before)


class DoubtMeter:
    """The doubt in each frame that comes; `min_score` replaces the model's thresholds where it is set."""

    def __init__(self, min_score: float | None = None) -> None:
        self._min_score = min_score
        self._flicker = Flicker()

    def thresholds(self, own: tuple[float, ...]) -> tuple[float, ...]:
        """The thresholds that count, for a model whose manifest says `own`."""
        return (self._min_score,) * len(own) if self._min_score else own

    def read(
        self, digest: str, cells: "NDArray[Any]", detections: tuple[Detection, ...], thresholds: tuple[float, ...]
    ) -> Doubt:
        """The doubt in one frame's detections by the model `digest`."""
        margins = margin_doubt(detections, thresholds)
        seen = tuple(item for item in detections if is_seen(item, thresholds))
        flickers = self._flicker.count(digest, cells, seen)
        return Doubt(margins + flickers, Cause.FLICKER if flickers > margins else Cause.SCORE)


def is_seen(detection: Detection, thresholds: Sequence[float]) -> bool:
    """Whether the robot is told of it."""
    return 0 <= detection.class_id < len(thresholds) and detection.score >= thresholds[detection.class_id]


def cells_of(frame: Frame) -> "NDArray[Any]":
    """The frame as `atoll_contract.images` compares it."""
    import cv2

    small = cv2.resize(frame.picture, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return centred(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))


def _unmatched(items: Sequence[Detection], others: Sequence[Detection]) -> int:
    inner = (item for item in items if min(item.box[:2]) > BORDER and max(item.box[2:]) < 1 - BORDER)
    return sum(
        not any(item.class_id == other.class_id and _overlap(item.box, other.box) >= SAME_OBJECT for other in others)
        for item in inner
    )


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes [ymin, xmin, ymax, xmax]."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    both = height * width
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
