"""What every test of a training needs."""

import random

import pytest


@pytest.fixture(autouse=True)
def own_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras takes the seeds of initial weights from Python's one generator, from which threads that other tests left
    behind may draw in between: these tests compare weights bit for bit, and give Keras a generator of its own."""
    own = random.Random(0)
    monkeypatch.setattr("keras.src.random.seed_generator.python_random", own)
    monkeypatch.setattr("keras.src.utils.rng_utils.random", own)
