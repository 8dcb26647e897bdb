"""The detector with its optimizer and its averaged weights, and the compiled training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from atoll_contract.errors import IntegrityError
from atoll_contract.images import Resize
from atoll_contract.train_spec import Architecture
from atoll_stages.train.anchors import generate_anchors
from atoll_stages.train.augment import Augmentation, augment
from atoll_stages.train.backbone import BLOCKS
from atoll_stages.train.dataset import Batch, Example
from atoll_stages.train.detections import Detections, FloatDetector, detect_examples
from atoll_stages.train.detector import build_detector
from atoll_stages.train.evaluate import MAX_DETECTIONS
from atoll_stages.train.heads import Targets, head_of
from atoll_stages.train.layers import assign_all, collected_averages, mean_over_replicas
from atoll_stages.train.optimizer import AdamW, MovingAverage
from atoll_stages.train.workers import Workers

# Losses come first in what a step returns.
LOSSES = 3
# The workers compare their steps by this remainder: a float holds the sum of so small numbers exactly.
STEP_REMAINDER = 4096
# Layers of the pyramid and the heads; all others are the backbone's.
HEAD_PREFIXES = ("fpn_", "head_", "class_", "box_", "extra_")


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of the compiled step.

    `backbone_factor` scales the backbone's learning rate. The stem and the first `frozen_blocks` blocks of the backbone
    keep their initial weights (0: nothing is frozen). `side` None is the architecture's own input side. `xla` compiles
    the network with its gradients, for a GPU; on a CPU the step is slower with it.
    """

    architecture: Architecture
    width: float
    classes: int
    seed: int
    weight_decay: float = 5e-4
    backbone_factor: float = 1.0
    frozen_blocks: int = 0
    ema_decay: float = 0.998
    augmentation: Augmentation = field(default_factory=Augmentation)
    side: int | None = None
    xla: bool = False
    resize: Resize = Resize.SQUASH

    @property
    def input_side(self) -> int:
        return self.side or self.architecture.side


class Trainer:
    """One detector in training.

    The same settings and batches give the same weights, bit for bit, on a machine with the same number of cores.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        strategy: tf.distribute.Strategy | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.settings = settings
        self.workers = workers or Workers()
        self._strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(settings.seed)
        with self.workers.peers_needed(), self._strategy.scope():
            self._create_variables()
        self._anchors: dict[int, tf.RaggedTensor] = {}
        # There is no Python control flow on tensors here, and autograph takes as long as the rest of the tracing.
        self._compiled_step = tf.function(self._distributed_step, autograph=False)
        self._compiled_mean = tf.function(self._distributed_mean, autograph=False)
        self._head = head_of(settings.architecture)
        self._detector = FloatDetector(
            self.model, settings.architecture, side=settings.input_side, max_detections=MAX_DETECTIONS
        )

    def _create_variables(self) -> None:
        settings = self.settings
        self.model = build_detector(
            architecture=settings.architecture,
            width=settings.width,
            classes=settings.classes,
            side=None if settings.architecture is not Architecture.SSD_300 else settings.input_side,
        )
        for layer in _frozen_layers(self.model, settings.frozen_blocks):
            layer.trainable = False
        trained = self.model.trainable_variables
        self._variables = [v.value for v in self.model.variables if v.dtype == "float32"]
        self._trained = [v.value for v in trained]
        factors = [1.0 if _is_head(v.path) else settings.backbone_factor for v in trained]
        self._optimizer = AdamW(self._trained, weight_decay=settings.weight_decay, factors=factors)
        self.average = MovingAverage(self._variables, decay=settings.ema_decay)

    def state(self) -> list[tf.Variable]:
        """Returns every variable that a resumed run needs, in a fixed order."""
        return [*self._variables, *self._optimizer.state(), *self.average.shadows]

    def train_step(self, batch: Batch, *, step: int, learning_rate: float, side: int) -> np.ndarray:
        """Takes one optimizer step, counted from 0, on images of `side` pixels.

        Returns:
            The total, classification and box loss.
        """
        losses, _ = self.train_step_together(
            batch, step=step, learning_rate=learning_rate, side=side, interrupted=False
        )
        return losses

    def train_step_together(
        self, batch: Batch, *, step: int, learning_rate: float, side: int, interrupted: bool
    ) -> tuple[np.ndarray, bool]:
        """Takes one optimizer step as `train_step`, as one of several workers: `batch` is this one's part, and
        `interrupted` tells the others that this one was asked to end.

        Returns:
            The losses, which are the same for all workers, and whether any worker was asked to end.

        Raises:
            IntegrityError: the workers are not at the same step. AtollError: PeerLost.
        """
        with self.workers.peers_needed():
            figures: np.ndarray = self._compiled_step(
                self._split_over_replicas(batch),
                self._ragged_anchors(side),
                tf.constant(side),
                tf.constant(step),
                tf.constant(learning_rate, tf.float32),
                tf.constant([interrupted, step % STEP_REMAINDER], tf.float32),
            ).numpy()
        any_interrupted, remainder = figures[LOSSES:]
        if remainder != step % STEP_REMAINDER:
            raise IntegrityError(
                f"the workers of this training are at different steps, this one at {step}: they have resumed from "
                "different checkpoints; the next attempt reads them again"
            )
        return figures[:LOSSES], bool(any_interrupted > 0)

    def any_ended(self, *, ended: bool) -> bool:
        """Waits until every worker has called this, and returns whether the training has `ended` for any of them.

        Raises:
            AtollError: PeerLost.
        """
        with self.workers.peers_needed():
            return bool(self._compiled_mean(tf.constant(ended, tf.float32)).numpy() > 0)

    def detect(self, examples: Sequence[Example]) -> list[Detections]:
        """Returns what the present weights find in each example, at the input side."""
        side = self.settings.input_side
        return detect_examples(self._detector, examples, side=side, resize=self.settings.resize)

    def detect_averaged(self, examples: Sequence[Example]) -> list[Detections]:
        """Returns what the averaged weights find in each example."""
        with self.average.applied():
            return self.detect(examples)

    def _ragged_anchors(self, side: int) -> tf.RaggedTensor:
        """Returns the anchors of a side, one row for each level. Ragged, because the type of such a tensor leaves its
        length open: one trace of the step serves every side."""
        if side not in self._anchors:
            anchors = generate_anchors(self.settings.architecture, side)
            self._anchors[side] = tf.RaggedTensor.from_row_lengths(anchors.boxes, anchors.levels)
        return self._anchors[side]

    def _split_over_replicas(self, batch: Batch) -> Any:
        """Returns the batch's arrays as tensors, split evenly over this process's replicas."""
        arrays = (batch.canvases, batch.boxes, batch.labels)
        if self._strategy.num_replicas_in_sync == 1:
            return tuple(tf.constant(a) for a in arrays)
        count = len(self._strategy.extended.worker_devices)

        def share(context: tf.distribute.InputReplicaContext) -> tuple[tf.Tensor, ...]:
            index = context.replica_id_in_sync_group % count
            return tuple(tf.constant(np.array_split(a, count)[index]) for a in arrays)

        return self._strategy.experimental_distribute_values_from_function(share)

    def _distributed_step(self, batch: tuple[tf.Tensor, ...], *rest: tf.Tensor) -> tf.Tensor:
        # Every replica returns the same, for the figures are reduced already.
        return self._strategy.experimental_local_results(self._strategy.run(self._replica_step, args=(batch, *rest)))[0]

    def _distributed_mean(self, figure: tf.Tensor) -> tf.Tensor:
        # A collective asks on which device its tensor lies; that of an argument does not say.
        means = self._strategy.run(lambda given: mean_over_replicas([tf.identity(given)])[0], args=(figure,))
        return self._strategy.experimental_local_results(means)[0]

    def _replica_step(
        self,
        batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        ragged_anchors: tf.RaggedTensor,
        side: tf.Tensor,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
        signals: tf.Tensor,
    ) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        canvases, boxes, labels = batch
        anchors, levels = ragged_anchors.values, ragged_anchors.row_lengths()
        images, boxes, labels = augment(
            canvases=canvases,
            boxes=boxes,
            labels=labels,
            seed=tf.stack([self.settings.seed + replica, step]),
            side=side,
            settings=self.settings.augmentation,
        )
        targets = Targets(boxes, labels)
        with tf.GradientTape() as tape:
            logits, codes, averages, moved = self._forward(images)
            losses = self._head.loss(logits, codes, anchors=anchors, levels=levels, targets=targets)
        gradients = tape.gradient(losses.total, self._trained)
        figures = tf.concat([tf.stack([losses.total, losses.classification, losses.box]), signals], 0)
        # One list is one collective, whose time on a network is mostly waiting.
        reduced = mean_over_replicas([*gradients, *moved, figures])
        gradients, moved, figures = reduced[: len(gradients)], reduced[len(gradients) : -1], reduced[-1]
        assign_all(list(zip(averages, moved, strict=True)))
        self._optimizer.apply(gradients, learning_rate=learning_rate, step=step)
        self.average.update(step)
        return figures

    def _forward(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Variable], list[tf.Tensor]]:
        """Returns the model's outputs, and the averages of its normalisation with their new values."""
        averages: list[tf.Variable] = []

        def network(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
            with collected_averages() as collected:
                logits, codes = self.model(inputs, training=True)
            averages[:] = [variable for variable, _ in collected]
            return logits, codes, [value for _, value in collected]

        # Only the network is compiled, with its gradients: XLA has to know all sizes, and those of the loss are open.
        compiled = tf.function(network, autograph=False, jit_compile=True) if self.settings.xla else network
        logits, codes, moved = compiled(images)
        return logits, codes, averages, moved


def _is_head(name: str) -> bool:
    """Whether the layer or variable of this name belongs to the pyramid or a head."""
    return name.startswith(HEAD_PREFIXES)


def _frozen_layers(model: keras.Model, blocks: int) -> list[Any]:
    """Returns the stem and the first `blocks` blocks of the backbone."""
    if not blocks:
        return []
    first_trained = f"block_{BLOCKS[blocks].index}_expand"
    names = [layer.name for layer in model.layers]
    return [layer for layer in model.layers[: names.index(first_trained)] if not _is_head(layer.name)]
