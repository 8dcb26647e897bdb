"""Which frames count as least certain: near the threshold, far from each other, and never many in memory."""

import itertools

import numpy as np
import pytest

from atoll_contract.release import Detection
from atoll_edge.robot.detection import FieldOfView, Observation, observe
from atoll_edge.video.contact_sheet import MOST_KEPT, Doubt, DoubtfulMoments, nearest_to


def seen(*scores: float, labels: int = 1) -> tuple[Observation, ...]:
    """One detection for each score, of the classes in turn."""
    found = [Detection(n % labels, score, (0.1, 0.1, 0.2, 0.2)) for n, score in enumerate(scores)]
    return observe(found, labels=["a", "b"][:labels], thresholds=(0.0, 0.0), view=FieldOfView())


def doubt(seconds: float, distance: float, *, video: str = "one") -> Doubt:
    [item] = seen(0.5)
    return Doubt(video, round(seconds * 30), seconds, distance, item, (), np.zeros((3, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("scores", "thresholds", "nearest"),
    [
        ((0.9, 0.45, 0.62), (0.5, 0.5), 0.45),
        ((0.9, 0.1), (0.5, 0.5), None),
        ((0.32, 0.8), (0.5, 0.9), 0.8),
        ((), (0.5, 0.5), None),
    ],
)
def test_the_score_nearest_its_own_classs_threshold_counts(
    scores: tuple[float, ...], thresholds: tuple[float, ...], nearest: float | None
) -> None:
    found = nearest_to(thresholds, seen(*scores, labels=2))
    assert (None if found is None else found.score) == nearest


def test_neighbours_of_the_least_certain_frame_do_not_fill_the_sheet() -> None:
    moments = DoubtfulMoments()
    for n in range(300):
        seconds = n / 30
        moments.add(doubt(seconds, 0.001 * n if seconds < 1 else 0.1 + seconds / 100))
    chosen = moments.chosen(4)
    assert chosen[0].distance == 0.0
    times = [item.seconds for item in chosen]
    assert len(times) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 1


def test_a_short_video_fills_the_sheet_with_what_it_has() -> None:
    moments = DoubtfulMoments()
    for n in range(60):
        moments.add(doubt(n / 30, 0.1))
    assert 2 <= len(moments.chosen(12)) <= 4


def test_hours_of_doubt_stay_small_and_keep_the_most_doubtful() -> None:
    moments = DoubtfulMoments()
    for second in range(4 * 3600):
        if moments.wants("one", second, 0.2):
            moments.add(doubt(second, 0.2))
    moments.add(doubt(7000.5, 0.01))
    assert len(moments._kept) <= MOST_KEPT
    chosen = moments.chosen(12)
    assert len(chosen) == 12
    assert 7000.5 in [item.seconds for item in chosen]


def test_videos_do_not_keep_each_other_apart() -> None:
    moments = DoubtfulMoments()
    for video in ("one", "two", "three"):
        moments.add(doubt(1.0, 0.1, video=video))
    assert [item.video for item in moments.chosen(12)] == ["one", "three", "two"]
