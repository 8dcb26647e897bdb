"""Detections, and a float detector that computes them as the post-processing op of the exported file does.

A detector finds boxes in its square input; `detect_examples` gives them relative to the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.box_distributions import IOU_THRESHOLD, SCORE_THRESHOLD
from atoll_contract.images import Region, Resize, boxes_in_image

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from atoll_contract.train_spec import Architecture
    from atoll_stages.train.dataset import Example

BATCH_SIZE = 8


@dataclass(frozen=True)
class Detections:
    """An image's detections, best score first: boxes (n, 4) as ymin, xmin, ymax, xmax, relative; classes from 0."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """What runs a model."""

    def detect_all(self, images: Iterable[np.ndarray]) -> list[Detections]:
        """Returns what it finds in uint8 images (side, side, 3), with boxes relative to these."""
        ...


def detect_examples(
    detector: Detector, examples: Iterable[Example], *, side: int, resize: Resize = Resize.SQUASH
) -> list[Detections]:
    """Returns what a detector finds in each example, with boxes relative to the example's own image."""
    regions: list[Region] = []

    def inputs() -> Iterator[np.ndarray]:
        for example in examples:
            regions.append(example.region(side, resize))
            yield preprocess.decode(example.encoded, side, resize)

    found = detector.detect_all(inputs())
    return [in_image(items, region) for items, region in zip(found, regions, strict=True)]


def in_image(found: Detections, region: Region) -> Detections:
    """Returns what was found in an input, with boxes relative to the image that lies in `region` of it."""
    boxes, kept = boxes_in_image(found.boxes, region)
    return Detections(boxes[kept], found.classes[kept], found.scores[kept])


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the IoU (n, m) of corner boxes (n, 4) with (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=-1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=-1)[None]
    iou: np.ndarray = intersection / np.maximum(areas - intersection, 1e-9)
    return iou


class FloatDetector:
    """A Keras detector with decoding and suppression, compiled, for images of `side` pixels."""

    def __init__(self, model: keras.Model, architecture: Architecture, *, side: int, max_detections: int) -> None:
        import tensorflow as tf

        from atoll_stages.train.anchors import generate_anchors
        from atoll_stages.train.heads import head_of

        head, anchors = head_of(architecture), generate_anchors(architecture, side).boxes

        def detect(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
            logits, codes = model(tf.cast(images, tf.float32) / 127.5 - 1.0, training=False)
            logits, codes = tf.cast(logits, tf.float32), tf.cast(codes, tf.float32)
            boxes = head.decode(codes, tf.constant(anchors)[None])
            return non_max_suppression(head.scores(logits), boxes, max_detections=max_detections)

        self._compiled = tf.function(detect, autograph=False)

    def detect_all(self, images: Iterable[np.ndarray]) -> list[Detections]:
        """Returns what the model's present weights find in uint8 images (side, side, 3)."""
        stream, found = iter(images), []
        while chunk := list(islice(stream, BATCH_SIZE)):
            # Always a full batch: another shape would be traced anew, which takes longer than to compute it.
            padded = np.stack([*chunk, *[np.zeros_like(chunk[0])] * (BATCH_SIZE - len(chunk))])
            boxes, classes, scores, counts = (t.numpy() for t in self._compiled(padded))
            found += [
                Detections(boxes[i, :n], classes[i, :n].astype(np.int32), scores[i, :n])
                for i, n in enumerate(counts[: len(chunk)])
            ]
        return found


def non_max_suppression(scores: tf.Tensor, boxes: tf.Tensor, *, max_detections: int) -> tuple[tf.Tensor, ...]:
    """Suppresses per class: boxes (batch, max_detections, 4), classes, scores (batch, max_detections), counts (batch,).

    Arguments are the scores (batch, anchors, classes) and the corner boxes (batch, anchors, 4).
    """
    import tensorflow as tf

    result = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores,
        max_output_size_per_class=max_detections,
        max_total_size=max_detections,
        iou_threshold=IOU_THRESHOLD,
        score_threshold=SCORE_THRESHOLD,
        clip_boxes=True,
    )
    return result.nmsed_boxes, result.nmsed_classes, result.nmsed_scores, result.valid_detections
