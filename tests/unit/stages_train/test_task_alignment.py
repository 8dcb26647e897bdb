"""Which cells an object takes, by what the network predicts."""

import numpy as np
import pytest

from atoll_contract.box_distributions import cell_grid
from atoll_stages.train.task_alignment import CELLS_PER_OBJECT, AlignedCells, align_cells

SIDE = 64
GRID = cell_grid(SIDE)


def align(
    boxes: list[list[float]], labels: list[int], predicted: np.ndarray, scores: np.ndarray | None = None
) -> AlignedCells:
    scores = np.full((len(GRID), 2), 0.01, np.float32) if scores is None else scores
    return align_cells(
        scores=scores[None],
        predicted=predicted[None],
        cells=GRID,
        boxes=np.array([boxes], np.float32),
        labels=np.array([labels], np.int32),
    )


def cell_boxes(strides: float) -> np.ndarray:
    """Every cell predicts a square of so many strides around itself."""
    half = GRID[:, 2:] * strides / 2
    return np.concatenate([GRID[:, :2] - half, GRID[:, :2] + half], axis=1).astype(np.float32)


def positive(aligned: AlignedCells) -> np.ndarray:
    return np.flatnonzero(aligned.alignment.numpy()[0] > 0)


def inside(box: list[float]) -> np.ndarray:
    return np.flatnonzero(((GRID[:, :2] >= box[:2]) & (GRID[:, :2] <= box[2:])).all(axis=1))


def test_an_object_takes_the_cells_in_it_that_place_it_best() -> None:
    # Not in the middle between cells, which would place it equally well.
    box = [0.2, 0.23, 0.7, 0.68]
    aligned = align([box], [1], cell_boxes(3))
    assert 0 < len(positive(aligned)) <= CELLS_PER_OBJECT
    assert set(positive(aligned)) <= set(inside(box))
    # The best of them is worth the IoU of its prediction, the others less.
    best = positive(aligned)[aligned.alignment.numpy()[0][positive(aligned)].argmax()]
    predicted, wanted = cell_boxes(3)[best], np.array(box)
    shared = np.prod(np.minimum(predicted[2:], wanted[2:]) - np.maximum(predicted[:2], wanted[:2]))
    areas = np.prod(predicted[2:] - predicted[:2]) + np.prod(wanted[2:] - wanted[:2])
    assert aligned.alignment.numpy()[0].max() == pytest.approx(shared / (areas - shared), abs=1e-5)


def test_of_equal_boxes_those_of_the_higher_score_are_taken() -> None:
    box = [0.0, 0.0, 1.0, 1.0]
    predicted = np.tile(np.array(box, np.float32), (len(GRID), 1))
    scores = np.full((len(GRID), 2), 0.1, np.float32)
    chosen = [3, 17, 20, 30, 40, 41, 50, 55, 60, 65, 70, 80, 83]
    scores[chosen, 1] = 0.9
    # The other class' score counts for nothing.
    scores[[5, 6, 7], 0] = 1.0
    np.testing.assert_array_equal(positive(align([box], [1], predicted, scores)), chosen)


def test_a_score_that_is_half_as_high_outweighs_a_box_that_is_a_tenth_better() -> None:
    box = np.array([0.0, 0.0, 1.0, 1.0], np.float32)
    predicted = np.tile(box * np.array([1, 1, 1, 0.9], np.float32), (len(GRID), 1))
    scores = np.full((len(GRID), 2), 0.4, np.float32)
    better = np.arange(20)
    predicted[better], scores[better, 1] = box, 0.2
    taken = positive(align([box.tolist()], [1], predicted, scores))
    assert len(taken) >= CELLS_PER_OBJECT
    assert not set(taken) & set(better)


def test_a_cell_of_two_objects_belongs_to_the_one_that_it_covers_best() -> None:
    large, small = [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.7, 0.7]
    predicted = np.tile(np.array(small, np.float32), (len(GRID), 1))
    aligned = align([large, small], [0, 0], predicted)
    owners = aligned.objects.numpy()[0]
    assert {int(owners[cell]) for cell in positive(aligned) if cell in inside(small)} == {1}


def test_an_object_between_the_centres_takes_the_nearest() -> None:
    # Smaller than a cell, and in a corner of one.
    box = [0.13, 0.13, 0.16, 0.16]
    assert not len(inside(box))
    taken = positive(align([box], [0], cell_boxes(3)))
    distance = ((GRID[:, :2] - 0.145) ** 2).sum(axis=1)
    assert len(taken)
    np.testing.assert_allclose(distance[taken], distance.min(), rtol=1e-5)


def test_padding_and_ignored_objects_take_nothing_and_only_the_latter_excuse_cells() -> None:
    box = [0.25, 0.25, 0.75, 0.75]
    aligned = align([box, [0.0] * 4], [-2, -1], cell_boxes(3))
    assert not len(positive(aligned))
    np.testing.assert_array_equal(np.flatnonzero(aligned.ignored.numpy()[0]), inside(box))


def test_a_cell_of_an_object_counts_though_an_ignored_one_covers_it() -> None:
    box = [0.25, 0.25, 0.75, 0.75]
    aligned = align([box, box], [0, -2], cell_boxes(3))
    assert len(positive(aligned))
    assert not aligned.ignored.numpy()[0][positive(aligned)].any()
