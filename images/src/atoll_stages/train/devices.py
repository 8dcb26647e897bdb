"""The devices to train on, and their precision."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_contract.errors import SpecError
from atoll_contract.stage import Accelerator

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

# From Ampere on, bfloat16 runs on the matrix units. It needs no loss scaling.
BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Devices:
    """`strategy` places variables and runs steps; a batch is split over `replicas` devices."""

    strategy: tf.distribute.Strategy
    kind: Accelerator
    replicas: int
    mixed_precision: bool


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's own messages out of the log. Call it before TensorFlow is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name not in ("absl", "tensorflow")


def find_devices(accelerator: Accelerator) -> Devices:
    """Returns the devices to train on: every visible GPU, or the CPU.

    Raises:
        SpecError: a GPU was requested and TensorFlow sees none.
    """
    import tensorflow as tf

    gpus = [] if accelerator is Accelerator.CPU else tf.config.list_physical_devices("GPU")
    if accelerator is Accelerator.GPU and not gpus:
        raise SpecError(
            "training.accelerator is gpu, but TensorFlow sees none; use auto or cpu, or check the profile's gpu "
            "resource, runtimeClassName and train image (it must be the GPU build)"
        )
    if not gpus:
        tf.config.set_visible_devices([], "GPU")
        # On the CPU this costs nothing, and makes a resumed run equal an uninterrupted one bit for bit.
        tf.config.experimental.enable_op_determinism()
        return Devices(tf.distribute.get_strategy(), Accelerator.CPU, 1, mixed_precision=False)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    capabilities = [tf.config.experimental.get_device_details(g).get("compute_capability") or (0, 0) for g in gpus]
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    return Devices(strategy, Accelerator.GPU, len(gpus), mixed_precision=min(capabilities) >= BFLOAT16_CAPABILITY)
