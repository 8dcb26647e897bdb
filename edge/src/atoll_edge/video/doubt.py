"""The frames of which the model was least certain: a score near the threshold, and not all at the same moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_edge.robot.observation import Observation

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

# A score as far from the threshold as this is no doubt any more.
REACH = 0.25
MOST_KEPT = 96
# The least time between two frames that are shown, where the videos are long enough (seconds).
APART = 1.0


@dataclass(frozen=True)
class Doubt:
    """A frame, the detection in it whose score is nearest its threshold, and what counts as seen beside it.

    `distance` is that between the score and the threshold; `picture` is BGR.
    """

    video: str
    frame: int
    seconds: float
    distance: float
    nearest: Observation
    seen: tuple[Observation, ...]
    picture: "NDArray[uint8]"


def nearest_to(thresholds: Sequence[float], candidates: Sequence[Observation]) -> Observation | None:
    """The one whose score is nearest its class's threshold, within REACH."""
    within = [item for item in candidates if distance(thresholds, item) <= REACH]
    return min(within, key=lambda item: distance(thresholds, item), default=None)


def distance(thresholds: Sequence[float], item: Observation) -> float:
    return abs(item.score - thresholds[item.class_id])


class DoubtfulMoments:
    """Of each stretch of each video the frame of most doubt.

    The stretches grow, so that no more than MOST_KEPT pictures are held however long the videos are.
    """

    def __init__(self) -> None:
        self._stretch = APART / 2
        self._kept: dict[tuple[str, int], Doubt] = {}

    def wants(self, video: str, seconds: float, distance: float) -> bool:
        """Whether a frame of this distance would be kept; ask before making its picture."""
        there = self._kept.get((video, int(seconds / self._stretch)))
        return there is None or distance < there.distance

    def add(self, doubt: Doubt) -> None:
        """Keep the frame, if its stretch has none of more doubt."""
        if not self.wants(doubt.video, doubt.seconds, doubt.distance):
            return
        self._kept[doubt.video, int(doubt.seconds / self._stretch)] = doubt
        while len(self._kept) > MOST_KEPT:
            self._stretch *= 2
            held, self._kept = self._kept, {}
            for item in sorted(held.values(), key=lambda item: -item.distance):
                self._kept[item.video, int(item.seconds / self._stretch)] = item

    def chosen(self, most: int) -> list[Doubt]:
        """Up to `most`, in the order of the videos' time: the most doubtful first, then others far enough from them."""
        ranked = sorted(self._kept.values(), key=lambda item: (item.distance, item.video, item.frame))
        length = max((item.seconds for item in ranked), default=0.0)
        gap = max(APART, length / most)
        taken: list[Doubt] = []
        while len(taken) < min(most, len(ranked)) and gap > APART / 8:
            for item in ranked:
                if len(taken) < most and all(_apart(item, other) >= gap for other in taken):
                    taken.append(item)
            gap /= 2
        return sorted(taken, key=lambda item: (item.video, item.frame))


def _apart(one: Doubt, other: Doubt) -> float:
    return abs(one.seconds - other.seconds) if one.video == other.video else float("inf")
