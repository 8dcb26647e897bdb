"""Several workers of one training: who they are, how they reach each other, and the loss of one of them."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_contract.errors import AtollError, Reason

if TYPE_CHECKING:
    import tensorflow as tf

# TensorFlow's message quotes the whole stack of the graph; the cause is in this line of it.
_CAUSE = re.compile(r"aborted by: *([^\n]+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """The workers of a training, and which of them this process is. The first one alone evaluates and writes.

    `addresses` are `host:port`, by index; a training with one worker needs none.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0

    @property
    def count(self) -> int:
        return max(1, len(self.addresses))

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def rows(self, batch_size: int) -> range:
        """The rows of a batch that this worker loads and trains on."""
        return range(batch_size * self.index // self.count, batch_size * (self.index + 1) // self.count)

    def strategy(self, gpus: int) -> tf.distribute.Strategy:
        """Connects the workers, each with so many GPUs, and returns their strategy; it waits until all are there.

        TensorFlow accepts it only before its first operation.

        Raises:
            AtollError: PeerLost, another worker ended meanwhile.
        """
        import tensorflow as tf

        implementations = tf.distribute.experimental.CommunicationImplementation
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(self.addresses)}),
            task_type="worker",
            task_id=self.index,
            num_accelerators={"GPU": gpus} if gpus else {},
            rpc_layer="grpc",
        )
        logger.warning("worker %s of %s, waiting for the others", self.index, self.count)
        with self.peers_needed():
            strategy = tf.distribute.MultiWorkerMirroredStrategy(
                resolver,
                # TensorFlow's own choice may differ between workers, which then wait for each other forever.
                tf.distribute.experimental.CommunicationOptions(
                    implementation=implementations.NCCL if gpus else implementations.RING
                ),
            )
        # TensorFlow has put a handler of its own in the place of the stage's, which would not learn that it is to end.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        return strategy

    @contextmanager
    def peers_needed(self) -> Iterator[None]:
        """Work that ends where another worker is gone.

        Raises:
            AtollError: PeerLost.
        """
        import tensorflow as tf

        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
        ) as error:
            if self.count == 1:
                raise
            cause = _CAUSE.search(error.message)
            text = cause[1] if cause else error.message.partition("\n")[0]
            raise AtollError(
                Reason.PEER_LOST,
                f"worker {self.index} of {self.count} (counted from 0) has lost another one: {text}; see how that one "
                "ended. The next attempt goes on from the newest checkpoint",
            ) from error
