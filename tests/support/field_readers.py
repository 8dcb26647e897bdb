"""How two programs of the field read a detector with distributions, stated anew from their published rules.

Frigate (`yolo-generic` on a Coral): two int8 outputs of three axes, found by their sizes; 64 channels are boxes. A cell
counts from a score of 0.4 on. One suppression for all classes together, at 0.4, of rectangles that it hands over as
(x1, y1, x2, y2) to a function that takes them for (x, y, width, height).

PhotonVision (Rockchip, its YOLOv8 and YOLO11 models): two outputs for each of three strides, boxes and then scores from
0 to 1, as (1, channels, height, width) in int8. Suppression for each class, of boxes in whole pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 16


@dataclass(frozen=True)
class Reading:
    """An object: its class, score, and box (ymin, xmin, ymax, xmax), relative."""

    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Int8Output:
    """An int8 output as an interpreter has it."""

    values: np.ndarray
    scale: float
    zero_point: int

    @property
    def real(self) -> np.ndarray:
        real: np.ndarray = (self.values.astype(np.float32) - self.zero_point) * self.scale
        return real


def quantised(values: np.ndarray, *, low: float | None = None, high: float | None = None) -> Int8Output:
    """Quantises over the range of the values, or a wider one."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    scale = (high - low) / 255
    zero_point = round(-128 - low / scale)
    return Int8Output(np.clip(np.round(values / scale) + zero_point, -128, 127).astype(np.int8), scale, zero_point)


def by_stride(codes: np.ndarray, logits: np.ndarray, side: int) -> list[np.ndarray]:
    """The six outputs of a chip's file as (channels, height, width), from the codes and logits of all cells."""
    ends = np.cumsum([(side // stride) ** 2 for stride in (8, 16, 32)])
    return [
        level.T.reshape(-1, side // stride, side // stride)
        for stride, *levels in zip(
            (8, 16, 32), np.split(codes, ends[:-1]), np.split(1.0 / (1.0 + np.exp(-logits)), ends[:-1]), strict=True
        )
        for level in levels
    ]


def frigate(outputs: Sequence[Int8Output], side: int, *, min_score: float = 0.4) -> list[Reading]:
    """Reads the outputs of an int8 file as Frigate does."""
    if len(outputs) not in (2, 3):
        raise ValueError(f"{len(outputs)} outputs")
    boxes_at = scores_at = None
    for place, output in enumerate(outputs):
        shape = output.values.shape
        if len(shape) == 3 and shape[2] == 4 * BINS:
            boxes_at = place
        elif len(shape) == 3 and shape[2] > 1:
            scores_at = place
    if boxes_at is None or scores_at is None:
        # Its guess: the scores are the first output unless that holds boxes, and then boxes and scores change places.
        scores_at = 0 if boxes_at is None or scores_at == 1 else 1
        boxes_at = 1 if boxes_at == 0 else 0
    boxes, scores = outputs[boxes_at], outputs[scores_at]
    limit = int(np.log(min_score / (1 - min_score)) / scores.scale + scores.zero_point)
    best = scores.values[0].max(axis=1)
    chosen = np.flatnonzero(best >= limit)
    logits = (best[chosen].astype(np.float64) - scores.zero_point) * scores.scale
    found = corners(boxes.real[0][chosen], *grid(side), chosen)
    kept = greedy(found, logits, limit=0.4, as_xywh=True)
    labels = scores.values[0][chosen].argmax(axis=1)
    return [
        Reading(int(labels[i]), float(1 / (1 + np.exp(-logits[i]))), relative(found[i], side))
        for i in kept
        if logits[i] > np.log(min_score / (1 - min_score))
    ]


def photonvision(outputs: Sequence[Int8Output], side: int, *, min_score: float, nms: float = 0.5) -> list[Reading]:
    """Reads the six outputs of a chip's file as PhotonVision does."""
    boxes, scores, labels = [], [], []
    for boxes_of, scores_of in zip(outputs[::2], outputs[1::2], strict=True):
        _, channels, height, width = boxes_of.values.shape
        bins, stride = channels // 4, side // height
        least = int(np.clip(min_score / scores_of.scale + scores_of.zero_point, -128, 127))
        for row in range(height):
            for column in range(width):
                cell = scores_of.values[0, :, row, column]
                if cell.max() <= least:
                    continue
                logits = boxes_of.real[0, :, row, column].reshape(4, bins)
                weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                left, top, right, bottom = weights @ np.arange(bins)
                x, y = column + 0.5, row + 0.5
                boxes.append(np.array([x - left, y - top, x + right, y + bottom]) * stride)
                scores.append(float(scores_of.real[0, :, row, column].max()))
                labels.append(int(cell.argmax()))
    kept = []
    for label in sorted(set(labels)):
        own = [i for i, other in enumerate(labels) if other == label]
        best = greedy(np.array([boxes[i] for i in own]), np.array([scores[i] for i in own]), limit=nms, pixel=1.0)
        kept += [own[i] for i in best]
    return [Reading(labels[i], scores[i], relative(np.clip(boxes[i], 0, side), side)) for i in kept]


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (x, y) of all cells in strides, and their strides."""
    centers, strides = [], []
    for stride in (8, 16, 32):
        count = side // stride
        y, x = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
        centers.append(np.stack((x.ravel(), y.ravel()), axis=1) + 0.5)
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(centers), np.concatenate(strides)


def corners(logits: np.ndarray, centers: np.ndarray, strides: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(x1, y1, x2, y2) in pixels of the chosen cells' boxes."""
    shaped = logits.reshape(-1, 4, BINS)
    weights = np.exp(shaped - shaped.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    distances = weights @ np.arange(BINS)
    low, high = centers[chosen] - distances[:, :2], centers[chosen] + distances[:, 2:]
    found: np.ndarray = np.concatenate((low, high), axis=1) * strides[chosen]
    return found


def greedy(
    boxes: np.ndarray, scores: np.ndarray, *, limit: float, pixel: float = 0.0, as_xywh: bool = False
) -> list[int]:
    """Non-maximum suppression; `pixel` is added to every length, `as_xywh` takes corners for a corner and a size."""
    rectangles = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes]) if as_xywh and len(boxes) else boxes
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(rectangles[i], rectangles[j], pixel) <= limit for j in kept):
            kept.append(int(i))
    return kept


def overlap(a: np.ndarray, b: np.ndarray, pixel: float = 0.0) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + pixel)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + pixel)
    areas = sum((box[2] - box[0] + pixel) * (box[3] - box[1] + pixel) for box in (a, b))
    return float(width * height / max(areas - width * height, 1e-9))


def relative(box: np.ndarray, side: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) / side for value in box)
    return y1, x1, y2, x2
