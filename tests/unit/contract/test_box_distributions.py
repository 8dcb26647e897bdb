"""Boxes and scores are read alike by Atoll, Frigate and PhotonVision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract import box_distributions as reading
from support.field_readers import Int8Output, Reading, by_stride, frigate, overlap, photonvision, quantised

SIDE, CLASSES = 320, 3
# What Frigate shows; PhotonVision's is a setting.
MIN_SCORE = 0.4
LOW, HIGH = -8.0, 3.0


class Scene:
    """The outputs of a network for objects of which each has some cells that see it."""

    def __init__(self, seed: int, *, classes: int = CLASSES, side: int = SIDE) -> None:
        random = np.random.default_rng(seed)
        self.side, self.classes = side, classes
        grid = reading.cell_grid(side)
        self.logits = random.normal(-5.0, 0.8, (len(grid), classes)).clip(LOW, -3.0)
        self.codes = random.normal(0.0, 1.0, (len(grid), reading.CODES))
        for box, label in zip(*self._objects(random), strict=True):
            self._place(grid, box, label, random)

    def _objects(self, random: np.random.Generator) -> tuple[list[np.ndarray], list[int]]:
        """One object in each quarter: Frigate's suppression, which takes corners for sizes, finds these apart."""
        boxes = []
        for y, x in ((0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)):
            size = random.uniform(0.12, 0.35, 2)
            low = np.array([y, x]) + random.uniform(0.02, 0.1, 2)
            boxes.append(np.concatenate([low, low + size]))
        return boxes, random.integers(0, self.classes, 4).tolist()

    def _place(self, grid: np.ndarray, box: np.ndarray, label: int, random: np.random.Generator) -> None:
        distances = (
            np.stack([grid[:, 1] - box[1], grid[:, 0] - box[0], box[3] - grid[:, 1], box[2] - grid[:, 0]], axis=1)
            / grid[:, 2:3]
        )
        middle = (box[:2] + box[2:]) / 2
        # The stride at which the object is some cells large sees it best.
        fits = (distances.min(axis=1) > 0.3) & (distances.max(axis=1) < 6) & (distances.max(axis=1) > 1.5)
        near = np.argsort(np.where(fits, ((grid[:, :2] - middle) ** 2).sum(axis=1), np.inf))[:6]
        for rank, cell in enumerate(near):
            self.logits[cell] = -6.0
            self.logits[cell, label] = 2.5 - 0.4 * rank + random.uniform(0, 0.1)
            share = np.maximum(1 - np.abs(distances[cell][:, None] - np.arange(16)), 0)
            self.codes[cell] = np.log(share + 1e-4).ravel()

    def file(self) -> tuple[Int8Output, Int8Output]:
        """The outputs of an int8 file."""
        return quantised(self.codes[None]), quantised(self.logits[None], low=LOW, high=HIGH)

    def levels(self) -> list[Int8Output]:
        """The outputs of a chip's file: for each stride boxes and scores, as PhotonVision takes them."""
        boxes_and_scores = by_stride(self.codes, self.logits, self.side)
        return [
            quantised(level[None], low=0.0, high=1.0) if place % 2 else quantised(level[None])
            for place, level in enumerate(boxes_and_scores)
        ]

    def found(self) -> list[Reading]:
        boxes, scores = self.file()
        found = reading.find_boxes(
            *(reading.OutputTensor(item.values[0], item.scale, item.zero_point) for item in (boxes, scores))
        )
        rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        return [Reading(label, score, tuple(box)) for label, score, box in rows if score > MIN_SCORE]


def assert_equal(theirs: list[Reading], ours: list[Reading]) -> None:
    """The same objects: equal classes, boxes of IoU .95 and more, and scores that differ by int8 steps alone."""
    assert len(theirs) == len(ours) > 0
    for item in theirs:
        twin = max(ours, key=lambda own: overlap(np.array(item.box), np.array(own.box)))
        assert overlap(np.array(item.box), np.array(twin.box)) >= 0.95
        assert item.label == twin.label
        assert item.score == pytest.approx(twin.score, abs=0.02)


@pytest.mark.parametrize("seed", range(8))
def test_frigate_and_photonvision_find_what_atoll_finds(seed: int) -> None:
    scene = Scene(seed)
    ours = scene.found()
    assert len(ours) == 4
    assert_equal(frigate(scene.file(), SIDE), ours)
    assert_equal(photonvision(scene.levels(), SIDE, min_score=MIN_SCORE), ours)


def test_a_second_column_of_a_single_class_changes_nothing() -> None:
    scene = Scene(1, classes=1)
    boxes, scores = scene.file()
    ours = scene.found()
    # Frigate takes an output with one column for no scores, and the boxes for it.
    with pytest.raises(ValueError, match="cannot reshape"):
        frigate([boxes, scores], SIDE)
    twice = Int8Output(np.repeat(scores.values, 2, axis=2), scores.scale, scores.zero_point)
    assert_equal(frigate([boxes, twice], SIDE), ours)
    found = reading.find_boxes(
        reading.OutputTensor(boxes.values[0], boxes.scale, boxes.zero_point),
        reading.OutputTensor(twice.values[0], twice.scale, twice.zero_point),
    )
    assert set(found.classes.tolist()) == {0}


@given(st.integers(1, 20).map(lambda count: 32 * count))
def test_the_number_of_cells_says_the_input(side: int) -> None:
    cells = reading.cell_count(side)
    assert reading.input_side(cells) == side
    assert len(reading.cell_grid(side)) == cells
    shapes: list[dict[str, tuple[int, ...]]] = [{"shape": (1, cells, 64)}, {"shape": (1, cells, 2)}]
    assert reading.has_distributions(shapes)
    assert not reading.has_distributions(shapes[::-1])
    assert not reading.has_distributions([{"shape": (1, cells + 1, 64)}, {"shape": (1, cells + 1, 2)}])
    assert not reading.has_distributions([*shapes, *shapes])


@settings(max_examples=30)
@given(st.lists(st.floats(0.0, 14.9), min_size=4, max_size=4), st.integers(0, 335))
def test_a_distance_between_two_bins_comes_back(distances: list[float], cell: int) -> None:
    grid = reading.cell_grid(128)[cell : cell + 1]
    share = np.maximum(1 - np.abs(np.array(distances)[:, None] - np.arange(16)), 0)
    (box,) = reading.decode(np.log(share + 1e-9).reshape(1, -1), grid)
    y, x, height, width = grid[0]
    left, top, right, bottom = distances
    expected = (y - top * height, x - left * width, y + bottom * height, x + right * width)
    np.testing.assert_allclose(box, expected, atol=1e-5)


def test_boxes_are_suppressed_within_their_class_best_first() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.9], [0, 0, 0.4, 1], [0.5, 0, 1, 1]], np.float32)
    assert reading.suppress(boxes, np.array([0, 0, 1, 0, 0]), max_detections=10) == [0, 2, 3, 4]
    assert reading.suppress(boxes, np.array([0, 0, 1, 0, 0]), max_detections=2) == [0, 2]


def test_a_picture_without_objects_has_no_detections() -> None:
    cells = reading.cell_count(64)
    found = reading.find_boxes(
        reading.OutputTensor(np.zeros((cells, 64), np.int8), 0.1, 3),
        reading.OutputTensor(np.full((cells, 2), -128, np.int8), 0.05, 20),
    )
    assert (found.boxes.shape, found.classes.shape, found.scores.shape) == ((0, 4), (0,), (0,))
