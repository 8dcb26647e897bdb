"""The devices to train on, and their precision."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from atoll_contract.errors import SpecError
from atoll_contract.train_spec import Accelerator
from atoll_stages.train.workers import Workers

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

# From Ampere on, bfloat16 runs on the matrix units. It needs no loss scaling.
BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Devices:
    """`strategy` places variables and runs steps; a batch is split over `replicas` devices, those of all workers."""

    strategy: tf.distribute.Strategy
    kind: Accelerator
    replicas: int
    mixed_precision: bool

    def with_precision(self, mixed: bool | None) -> Devices:
        """Returns the devices with the precision that a run asks for; None: their own choice stays."""
        return self if mixed is None else replace(self, mixed_precision=mixed)


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's own messages out of the log. Call it before TensorFlow is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name not in ("absl", "tensorflow")


def find_devices(accelerator: Accelerator, workers: Workers | None = None) -> Devices:
    """Returns the devices to train on: every visible GPU, or the CPU. Several workers wait here for each other.

    Raises:
        SpecError: a GPU was requested and TensorFlow sees none.
        AtollError: PeerLost.
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
        strategy = _strategy(0, workers)
        # On the CPU this costs nothing, and makes a resumed run equal an uninterrupted one bit for bit.
        tf.config.experimental.enable_op_determinism()
        return Devices(strategy, Accelerator.CPU, strategy.num_replicas_in_sync, mixed_precision=False)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    capabilities = [tf.config.experimental.get_device_details(g).get("compute_capability") or (0, 0) for g in gpus]
    strategy = _strategy(len(gpus), workers)
    bfloat16 = min(capabilities) >= BFLOAT16_CAPABILITY
    return Devices(strategy, Accelerator.GPU, strategy.num_replicas_in_sync, mixed_precision=bfloat16)


def _strategy(gpus: int, workers: Workers | None) -> tf.distribute.Strategy:
    import tensorflow as tf

    if workers is not None and workers.count > 1:
        return workers.strategy(gpus)
    return tf.distribute.MirroredStrategy() if gpus > 1 else tf.distribute.get_strategy()
