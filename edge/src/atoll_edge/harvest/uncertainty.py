"""How uncertain a model is of a frame.

Uncertainty is counted in boxes: about how many boxes of the frame a person would have to add, remove or confirm. A
detection whose score equals the threshold of its class counts 1, because the model might as well have decided the other
way; one whose score is HARVEST_BAND or more away counts 0; between them it is linear. This is margin sampling, with the
threshold as the boundary that decides what the robot sees. The margins of a frame are added up, as a label is worth
more where it settles more boxes (sum aggregation in Brust, Käding and Denzler, "Active Learning for Deep Object
Detection", 2019). An object that a detector misses without any score has no margin. Some of those show over time: an
object that appears or disappears between two frames of an almost unchanged scene counts 1 as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from atoll_contract.harvest import Cause
from atoll_contract.images import CELLS, centred, changes
from atoll_contract.release import Detection
from atoll_edge.camera.source import Frame
from atoll_edge.detector.outputs import intersection_over_union

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Scores of int8 models come in steps of 1/256, and nobody calibrates them: a narrower band would be guesswork.
HARVEST_BAND = 0.2
# Two frames that differ in a larger share of the image are not one scene.
SAME_SCENE = 0.1
# The smallest IoU of two boxes of one object.
SAME_OBJECT = 0.3
# Width of the border, relative to the image: objects enter and leave there, which is not flicker.
BORDER = 0.02


class Scored(Protocol):
    """A detection or an observation."""

    @property
    def class_id(self) -> int: ...

    @property
    def score(self) -> float: ...


ScoredItem = TypeVar("ScoredItem", bound=Scored)


def score_margin(item: Scored, thresholds: Sequence[float]) -> float:
    """Returns the distance between a score and the threshold of its class."""
    return abs(item.score - thresholds[item.class_id])


def nearest_threshold(items: Iterable[ScoredItem], thresholds: Sequence[float], *, band: float) -> ScoredItem | None:
    """Returns the item with the smallest margin; None if no margin is within `band`."""
    within = [item for item in items if score_margin(item, thresholds) <= band]
    return min(within, key=lambda item: score_margin(item, thresholds), default=None)


def score_uncertainty(items: Iterable[Scored], thresholds: Sequence[float], *, band: float = HARVEST_BAND) -> float:
    """Returns the uncertainty in the scores, in boxes. A class without a threshold counts nothing."""
    known = (item for item in items if 0 <= item.class_id < len(thresholds))
    return sum(max(0.0, 1.0 - score_margin(item, thresholds) / band) for item in known)


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainty of a frame in boxes; `cause` is what contributed most."""

    boxes: float
    cause: Cause


class UncertaintyEstimator:
    """Estimates the uncertainty of successive frames; `min_score` replaces the model's thresholds where it is set."""

    def __init__(self, min_score: float | None = None) -> None:
        self._min_score = min_score
        self._flicker = FlickerCounter()

    def thresholds(self, own: tuple[float, ...]) -> tuple[float, ...]:
        """Returns the thresholds that count for a model whose manifest has `own`."""
        return (self._min_score,) * len(own) if self._min_score else own

    def estimate(
        self, digest: str, cells: "NDArray[Any]", detections: tuple[Detection, ...], thresholds: tuple[float, ...]
    ) -> Uncertainty:
        """Returns the uncertainty of a frame; `cells` are those of `cells_of`, `digest` identifies the model."""
        margins = score_uncertainty(detections, thresholds)
        seen = tuple(item for item in detections if is_seen(item, thresholds))
        flickers = self._flicker.count(digest, cells, seen)
        return Uncertainty(margins + flickers, Cause.FLICKER if flickers > margins else Cause.SCORE)


class FlickerCounter:
    """Compares the objects of each frame with those of the frame before."""

    def __init__(self) -> None:
        self._digest = ""
        self._cells: NDArray[Any] | None = None
        self._seen: tuple[Detection, ...] = ()

    def count(self, digest: str, cells: "NDArray[Any]", seen: tuple[Detection, ...]) -> int:
        """Returns the number of seen objects without a match in the frame before, and the other way round; 0 if that
        was another scene or another model's."""
        before, known = self._seen, self._cells
        same = digest == self._digest and known is not None and float(changes(known, cells)) <= SAME_SCENE
        self._digest, self._cells, self._seen = digest, cells, seen
        return _unmatched(before, seen) + _unmatched(seen, before) if same else 0


def _unmatched(items: Sequence[Detection], others: Sequence[Detection]) -> int:
    inner = (item for item in items if min(item.box[:2]) > BORDER and max(item.box[2:]) < 1 - BORDER)
    return sum(not any(_same_object(item, other) for other in others) for item in inner)


def _same_object(one: Detection, other: Detection) -> bool:
    return one.class_id == other.class_id and intersection_over_union(one.box, other.box) >= SAME_OBJECT


def is_seen(detection: Detection, thresholds: Sequence[float]) -> bool:
    """Returns whether the detection is published to the robot."""
    return 0 <= detection.class_id < len(thresholds) and detection.score >= thresholds[detection.class_id]


def cells_of(frame: Frame) -> "NDArray[Any]":
    """Returns the frame in the form in which `atoll_contract.images` compares it."""
    import cv2

    small = cv2.resize(frame.image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return centred(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
