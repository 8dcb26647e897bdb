"""Images of the training part as the network sees them: cropped, flipped and coloured by the training's own code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from atoll_stages.export.drawing import draw_network_input
from atoll_stages.train.augment import augment
from atoll_stages.train.config import TrainConfig
from atoll_stages.train.dataset import BatchLoader, Example, canvas_side
from atoll_stages.train.sampling import Sampling, batch_indices, repeat_factors

MAX_IMAGES = 8


def training_images(examples: Sequence[Example], config: TrainConfig) -> list[str]:
    """Returns the first images of the training with their boxes, as `data:` addresses."""
    trainer = config.trainer
    count = min(MAX_IMAGES, len(examples))
    factors = repeat_factors([example.labels for example in examples], config.repeat_threshold)
    chosen = batch_indices(0, batch_size=count, factors=factors, seed=trainer.seed)
    side = canvas_side(trainer.input_side, count=len(examples))
    shown = [examples[i] for i in chosen]
    with BatchLoader(
        shown, side=side, batch_size=count, sampling=Sampling(trainer.seed), resize=trainer.resize
    ) as loader:
        batch = loader.batch(0)
    images, boxes, labels = augment(
        canvases=tf.constant(batch.canvases),
        boxes=tf.constant(batch.boxes),
        labels=tf.constant(batch.labels),
        seed=tf.constant([trainer.seed, 0]),
        side=tf.constant(trainer.input_side),
        settings=trainer.augmentation,
    )
    pixels = np.clip(np.round((images.numpy() + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return [draw_network_input(*row) for row in zip(pixels, boxes.numpy(), labels.numpy(), strict=True)]
