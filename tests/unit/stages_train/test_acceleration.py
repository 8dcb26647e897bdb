"""What is for a GPU, tried on the CPU: XLA and mixed precision train as the plain step does."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

from atoll_contract.train_spec import Architecture
from atoll_stages.train.dataset import BatchLoader
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings
from support.detection_data import CLASSES, labelled_images

STEPS, SIDE = 2, 64

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def own_policy() -> Iterator[None]:
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def losses(*, xla: bool = False, policy: str = "float32") -> np.ndarray:
    """The losses of a few steps from the same weights on the same pictures."""
    keras.config.set_dtype_policy(policy)
    trainer = Trainer(TrainerSettings(Architecture.FPNLITE_192, 0.35, len(CLASSES), seed=3, side=SIDE, xla=xla))
    with BatchLoader(labelled_images(4), side=SIDE, batch_size=4, sampling=Sampling(1)) as loader:
        return np.array(
            [trainer.train_step(loader.batch(step), step=step, learning_rate=1e-3, side=SIDE) for step in range(STEPS)]
        )


def test_xla_and_mixed_precision_train_as_the_plain_step_does() -> None:
    plain = losses()
    compiled = losses(xla=True)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-4)
    # Adam's first update is the gradient's sign, which rounding decides where a gradient is nearly 0.
    np.testing.assert_allclose(compiled, plain, rtol=1e-2)
    np.testing.assert_allclose(losses(policy="mixed_bfloat16"), plain, rtol=2e-2)
