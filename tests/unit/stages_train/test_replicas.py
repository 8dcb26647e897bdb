"""Several devices in one process: two logical CPUs stand for two GPUs under MirroredStrategy."""

import subprocess
import sys
from pathlib import Path

import pytest

# TensorFlow takes its devices once, before anything else is done; hence a process of its own.
SCRIPT = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from support.detection_data import CLASSES, labelled_images
from atoll_contract.train_spec import Architecture
from atoll_stages.train.dataset import BatchLoader
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings

settings = TrainerSettings(Architecture.FPNLITE_192, 0.35, len(CLASSES), seed=3, side=64)
trainer = Trainer(settings, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
trainer.average.reset()
before = [v.values[0].numpy() for v in trainer.state()]
with BatchLoader(labelled_images(4), side=64, batch_size=4, sampling=Sampling(1)) as loader:
    for step in range(2):
        assert np.isfinite(trainer.train_step(loader.batch(step), step=step, learning_rate=1e-3, side=64)).all()
for variable in trainer.state():
    first, second = (copy.numpy() for copy in variable.values)
    np.testing.assert_array_equal(first, second)
moved = sum(not np.array_equal(v.values[0].numpy(), old) for v, old in zip(trainer.state(), before, strict=True))
assert moved > 0.9 * len(before), moved
print("replicas agree")
"""


@pytest.mark.timeout(300)
def test_replicas_train_and_stay_equal() -> None:
    """Weights, optimizer state, averages and the statistics of batch normalisation."""
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": str(tests), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["replicas agree"], done.stderr[-2000:]
