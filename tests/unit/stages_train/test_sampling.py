"""Which examples a training sees: each once in an epoch, and those with rare classes more often."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_stages.train.dataset import BatchLoader
from atoll_stages.train.sampling import Sampling, batch_indices, epoch_length, epoch_order, repeat_factors
from support.detection_data import labelled_images


def labels(*classes: list[int]) -> list[np.ndarray]:
    return [np.array(own, np.int32) for own in classes]


def test_a_picture_comes_as_often_as_its_rarest_class_asks() -> None:
    common = [[0], [0, 0]] * 45
    factors = repeat_factors(labels(*common, *[[0, 1]] * 8, [2], []), 0.5)
    assert factors[:90].tolist() == [1.0] * 90
    assert factors[90:98] == pytest.approx((0.5 / 0.08) ** 0.5)
    assert factors[98] == pytest.approx((0.5 / 0.01) ** 0.5)
    assert factors[99] == 1.0


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_without_rare_classes_each_comes_once_in_the_order_of_its_seed(threshold: float) -> None:
    factors = repeat_factors(labels(*[[0, 1]] * 7), threshold)
    assert factors.tolist() == [1.0] * 7
    orders = [epoch_order(seed=1, epoch=epoch, factors=factors).tolist() for epoch in range(3)]
    assert [sorted(order) for order in orders] == [list(range(7))] * 3
    # What releases before repeat factors took, so that a run goes on with the pictures that it began with.
    assert orders[0] == [2, 0, 4, 5, 3, 1, 6]
    assert batch_indices(2, batch_size=3, factors=factors, seed=1).tolist() == [orders[0][6], *orders[1][:2]]


@given(st.lists(st.floats(1.0, 9.0), min_size=1, max_size=40), st.integers(0, 5), st.integers(0, 3))
def test_in_every_epoch_each_comes_as_often_as_its_factor_rounded(factors: list[float], seed: int, epoch: int) -> None:
    given_factors = np.array(factors)
    counts = Counter(epoch_order(seed=seed, epoch=epoch, factors=given_factors).tolist())
    length = epoch_length(given_factors)
    assert sum(counts.values()) == length
    for index, factor in enumerate(given_factors * (length / given_factors.sum())):
        assert counts[index] >= 1
        assert abs(counts[index] - factor) < 1 + 1e-6


def test_the_loader_shows_pictures_of_a_rare_class_more_often() -> None:
    common = [replace(example, labels=np.zeros_like(example.labels)) for example in labelled_images(20)]
    examples = [replace(common[0], labels=np.ones_like(common[0].labels)), *common[1:]]
    steps = 50
    seen = [0, 0]
    for index, threshold in enumerate((0.0, 0.5)):
        with BatchLoader(examples, side=32, batch_size=4, sampling=Sampling(1, threshold)) as loader:
            batches = [loader.batch(step) for step in range(steps)]
        seen[index] = sum(int((batch.labels == 1).any(axis=1).sum()) for batch in batches)
    assert seen[0] == 10
    # The root of .5 over .05 times as often, in an epoch that is as much longer; each epoch rounds by chance.
    assert seen[1] == pytest.approx(200 * 10**0.5 / (19 + 10**0.5), abs=4)
