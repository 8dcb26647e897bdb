"""The detector with its optimizer and its averaged weights, and the compiled training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from atoll_contract import images as preprocess
from atoll_contract.stage import Architecture
from atoll_stages.train.anchors import generate_anchors, match_anchors
from atoll_stages.train.augment import Augmentation, augment
from atoll_stages.train.backbone import BLOCKS
from atoll_stages.train.dataset import Batch, Example
from atoll_stages.train.detections import Detections, FloatDetector
from atoll_stages.train.detector import build_detector
from atoll_stages.train.evaluate import MAX_DETECTIONS
from atoll_stages.train.layers import mean_over_replicas
from atoll_stages.train.losses import detection_loss
from atoll_stages.train.optimizer import AdamW, MovingAverage

# Layers of the pyramid and the heads; all others are the backbone's.
HEAD_PREFIXES = ("fpn_", "head_", "class_", "box_", "extra_")


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of the compiled step.

    `backbone_factor` scales the backbone's learning rate. The stem and the first `frozen_blocks` blocks of the backbone
    keep their initial weights (0: nothing is frozen). `side` None is the architecture's own input side.
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

    @property
    def input_side(self) -> int:
        return self.side or self.architecture.side


class Trainer:
    """One detector in training.

    The same settings and batches give the same weights, bit for bit, on a machine with the same number of cores.
    """

    def __init__(self, settings: TrainerSettings, strategy: tf.distribute.Strategy | None = None) -> None:
        self.settings = settings
        self._strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(settings.seed)
        with self._strategy.scope():
            self._create_variables()
        self._anchors: dict[int, tf.RaggedTensor] = {}
        # There is no Python control flow on tensors here, and autograph takes as long as the rest of the tracing.
        self._compiled_step = tf.function(self._distributed_step, autograph=False)
        anchors = generate_anchors(settings.architecture, settings.input_side)
        self._detector = FloatDetector(self.model, anchors.boxes, max_detections=MAX_DETECTIONS)

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
        losses: np.ndarray = self._compiled_step(
            self._split_over_replicas(batch),
            self._ragged_anchors(side),
            tf.constant(side),
            tf.constant(step),
            tf.constant(learning_rate, tf.float32),
        ).numpy()
        return losses

    def detect(self, examples: Sequence[Example]) -> list[Detections]:
        """Returns what the present weights find in each example, at the input side."""
        side = self.settings.input_side
        return self._detector.detect_all(preprocess.decode(example.encoded, side) for example in examples)

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
        """Returns the batch's arrays as tensors, split evenly over the replicas."""
        arrays = (batch.canvases, batch.boxes, batch.labels)
        count = self._strategy.num_replicas_in_sync
        if count == 1:
            return tuple(tf.constant(a) for a in arrays)

        def share(context: tf.distribute.InputReplicaContext) -> tuple[tf.Tensor, ...]:
            index = context.replica_id_in_sync_group
            return tuple(tf.constant(np.array_split(a, count)[index]) for a in arrays)

        return self._strategy.experimental_distribute_values_from_function(share)

    def _distributed_step(self, batch: tuple[tf.Tensor, ...], *rest: tf.Tensor) -> tf.Tensor:
        losses = self._strategy.run(self._replica_step, args=(batch, *rest))
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    def _replica_step(
        self,
        batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        ragged_anchors: tf.RaggedTensor,
        side: tf.Tensor,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
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
        matches = match_anchors(self.settings.architecture, anchors=anchors, levels=levels, boxes=boxes, labels=labels)
        with tf.GradientTape() as tape:
            logits, codes = self.model(images, training=True)
            losses = detection_loss(
                logits=logits, codes=codes, anchors=anchors, matches=matches, boxes=boxes, labels=labels
            )
        gradients = tape.gradient(losses.total, self._trained)
        self._optimizer.apply(mean_over_replicas(gradients), learning_rate=learning_rate, step=step)
        self.average.update(step)
        return tf.stack([losses.total, losses.classification, losses.box])


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
