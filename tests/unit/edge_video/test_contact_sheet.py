"""Which frames count as least certain: near the threshold, far from each other, and never many in memory."""

import itertools

import numpy as np
import pytest

from atoll_contract.release import Detection
from atoll_edge.harvest.uncertainty import nearest_threshold
from atoll_edge.robot.detection import Observation, View, observe
from atoll_edge.robot.lens import FieldOfView
from atoll_edge.video.contact_sheet import MAX_KEPT, UncertainFrame, UncertainFrames
from atoll_edge.video.evaluate import UNCERTAIN_BAND


def seen(*scores: float, labels: int = 1) -> tuple[Observation, ...]:
    """One detection for each score, of the classes in turn."""
    found = [Detection(n % labels, score, (0.1, 0.1, 0.2, 0.2)) for n, score in enumerate(scores)]
    return observe(found, labels=["a", "b"][:labels], thresholds=(0.0, 0.0), view=View(FieldOfView()))


def uncertain(seconds: float, margin: float, *, video: str = "one") -> UncertainFrame:
    [item] = seen(0.5)
    return UncertainFrame(video, round(seconds * 30), seconds, margin, item, (), np.zeros((3, 4, 3), np.uint8))


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
    found = nearest_threshold(seen(*scores, labels=2), thresholds, band=UNCERTAIN_BAND)
    assert (None if found is None else found.score) == nearest


def test_neighbours_of_the_least_certain_frame_do_not_fill_the_sheet() -> None:
    frames = UncertainFrames()
    for n in range(300):
        seconds = n / 30
        frames.add(uncertain(seconds, 0.001 * n if seconds < 1 else 0.1 + seconds / 100))
    selected = frames.select(4)
    assert selected[0].margin == 0.0
    times = [item.seconds for item in selected]
    assert len(times) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 1


def test_a_short_video_fills_the_sheet_with_what_it_has() -> None:
    frames = UncertainFrames()
    for n in range(60):
        frames.add(uncertain(n / 30, 0.1))
    assert 2 <= len(frames.select(12)) <= 4


def test_hours_of_doubt_stay_small_and_keep_the_most_doubtful() -> None:
    frames = UncertainFrames()
    for second in range(4 * 3600):
        if frames.wants("one", second, 0.2):
            frames.add(uncertain(second, 0.2))
    frames.add(uncertain(7000.5, 0.01))
    assert len(frames._kept) <= MAX_KEPT
    selected = frames.select(12)
    assert len(selected) == 12
    assert 7000.5 in [item.seconds for item in selected]


def test_videos_do_not_keep_each_other_apart() -> None:
    frames = UncertainFrames()
    for video in ("one", "two", "three"):
        frames.add(uncertain(1.0, 0.1, video=video))
    assert [item.video for item in frames.select(12)] == ["one", "three", "two"]
