"""The detector with all that training changes, and one compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from atoll_contract import images as preprocess
from atoll_contract.stage import Architecture
from atoll_stages.train.anchors import Matches, anchors_for, match_adaptive, match_argmax
from atoll_stages.train.augment import Augmentation, augment
from atoll_stages.train.backbone import BLOCKS
from atoll_stages.train.dataset import Batch, Example
from atoll_stages.train.detections import Detections, suppress, unpack
from atoll_stages.train.detector import build
from atoll_stages.train.layers import mean_over_replicas
from atoll_stages.train.losses import detection_loss
from atoll_stages.train.optimizer import AdamW, MovingAverage

# Layers of the pyramid and the heads; all others are the backbone's.
HEAD_PREFIXES = ("fpn_", "head_", "class_", "box_", "extra_")
EVALUATION_BATCH = 8
EVALUATION_DETECTIONS = 100


@dataclass(frozen=True)
class TrainerSettings:
    """What the compiled step depends on. `backbone_factor` scales the backbone's learning rate; the first
    `frozen_blocks` blocks of the backbone and the stem keep their start weights (0: nothing is frozen)."""

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


def is_head(name: str) -> bool:
    """Whether a layer or variable path of this name lies behind the backbone."""
    return name.startswith(HEAD_PREFIXES)


def frozen_layers(model: keras.Model, blocks: int) -> list[Any]:
    """The stem and the first `blocks` blocks of the backbone."""
    if not blocks:
        return []
    first_kept = f"block_{BLOCKS[blocks].index}_expand"
    names = [layer.name for layer in model.layers]
    return [layer for layer in model.layers[: names.index(first_kept)] if not is_head(layer.name)]


class Trainer:
    """One detector in training, seeded: the same settings and batches give the same weights, bit for bit, on a
    machine with the same number of cores."""

    def __init__(self, settings: TrainerSettings, strategy: tf.distribute.Strategy | None = None) -> None:
        import keras
        import tensorflow as tf

        self.settings = settings
        self._strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(settings.seed)
        with self._strategy.scope():
            self._create()
        self._anchors: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}
        self._compiled_step = self._compile_step()
        self._compiled_predict = self._compile_predict()

    def _create(self) -> None:
        settings = self.settings
        self.model = build(
            architecture=settings.architecture,
            width=settings.width,
            classes=settings.classes,
            side=None if settings.architecture is not Architecture.SSD_300 else settings.input_side,
        )
        for layer in frozen_layers(self.model, settings.frozen_blocks):
            layer.trainable = False
        trained = self.model.trainable_variables
        self.variables = [v.value for v in self.model.variables if v.dtype == "float32"]
        self._trained = [v.value for v in trained]
        factors = [1.0 if is_head(v.path) else settings.backbone_factor for v in trained]
        self.optimizer = AdamW(self._trained, decay=settings.weight_decay, factors=factors)
        self.average = MovingAverage(self.variables, decay=settings.ema_decay)

    def state(self) -> list[tf.Variable]:
        """Every variable that a resumed run needs, in a fixed order."""
        return [*self.variables, *self.optimizer.state(), *self.average.shadows]

    def _anchor_tensors(self, side: int) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        if side not in self._anchors:
            anchors = anchors_for(self.settings.architecture, side)
            self._anchors[side] = tf.constant(anchors.boxes), tf.constant(anchors.levels)
        return self._anchors[side]

    def _match(self, anchors: tf.Tensor, levels: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> Matches:
        if self.settings.architecture is Architecture.SSD_300:
            return match_argmax(anchors=anchors, boxes=boxes, labels=labels)
        return match_adaptive(anchors=anchors, levels=levels, boxes=boxes, labels=labels)

    def _replica_step(
        self,
        batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        anchors: tf.Tensor,
        levels: tf.Tensor,
        side: tf.Tensor,
        position: tf.Tensor,
        rate: tf.Tensor,
    ) -> tf.Tensor:
        import tensorflow as tf

        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.stack([self.settings.seed + replica, position])
        canvases, boxes, labels = batch
        pictures, boxes, labels = augment(
            canvases=canvases,
            boxes=boxes,
            labels=labels,
            seed=seed,
            side=side,
            settings=self.settings.augmentation,
        )
        matches = self._match(anchors, levels, boxes, labels)
        with tf.GradientTape() as tape:
            logits, codes = self.model(pictures, training=True)
            losses = detection_loss(
                logits=logits, codes=codes, anchors=anchors, matches=matches, boxes=boxes, labels=labels
            )
        gradients = tape.gradient(losses.total, self._trained)
        self.optimizer.apply(mean_over_replicas(gradients), rate=rate, step=position)
        self.average.update(position)
        return tf.stack([losses.total, losses.classification, losses.box])

    def _compile_step(self) -> Any:
        import tensorflow as tf

        strategy = self._strategy

        def step(batch: tuple[tf.Tensor, ...], *rest: tf.Tensor) -> tf.Tensor:
            losses = strategy.run(self._replica_step, args=(batch, *rest))
            return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

        return tf.function(step, reduce_retracing=True)

    def _shared_out(self, batch: Batch) -> Any:
        """The batch's arrays, split evenly over the replicas."""
        import tensorflow as tf

        arrays = (batch.canvases, batch.boxes, batch.labels)
        count = self._strategy.num_replicas_in_sync
        if count == 1:
            return tuple(tf.constant(a) for a in arrays)

        def part(context: tf.distribute.InputReplicaContext) -> tuple[tf.Tensor, ...]:
            index = context.replica_id_in_sync_group
            return tuple(tf.constant(np.array_split(a, count)[index]) for a in arrays)

        return self._strategy.experimental_distribute_values_from_function(part)

    def step(self, batch: Batch, *, position: int, rate: float, side: int) -> np.ndarray:
        """Take one optimizer step, counted from 0: the total, classification and box loss."""
        import tensorflow as tf

        anchors, levels = self._anchor_tensors(side)
        losses = self._compiled_step(
            self._shared_out(batch),
            anchors,
            levels,
            tf.constant(side),
            tf.constant(position),
            tf.constant(rate, tf.float32),
        )
        values: np.ndarray = losses.numpy()
        return values

    def _compile_predict(self) -> Any:
        import tensorflow as tf

        def predict(pictures: tf.Tensor, anchors: tf.Tensor) -> tuple[tf.Tensor, ...]:
            logits, codes = self.model(tf.cast(pictures, tf.float32) / 127.5 - 1.0, training=False)
            logits, codes = tf.cast(logits, tf.float32), tf.cast(codes, tf.float32)
            return suppress(logits, codes, anchors, most=EVALUATION_DETECTIONS)

        return tf.function(predict, reduce_retracing=True)

    def detect_averaged(self, examples: Sequence[Example]) -> list[Detections]:
        """What the averaged weights find in each example."""
        with self.average.applied():
            return self.detect(examples)

    def detect(self, examples: Sequence[Example]) -> list[Detections]:
        """What the present weights find in each example, at the architecture's own input size."""
        side = self.settings.input_side
        anchors, _ = self._anchor_tensors(side)
        found: list[Detections] = []
        for start in range(0, len(examples), EVALUATION_BATCH):
            chunk = examples[start : start + EVALUATION_BATCH]
            # Always a full batch: another shape would be traced anew, which takes longer than to compute it.
            pictures = np.zeros((EVALUATION_BATCH, side, side, 3), np.uint8)
            for row, example in enumerate(chunk):
                pictures[row] = preprocess.decode(example.encoded, side)
            found += unpack(*(t.numpy() for t in self._compiled_predict(pictures, anchors)))[: len(chunk)]
        return found
