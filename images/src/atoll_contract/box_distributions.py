"""Reading a detector whose boxes are distributions: what training, export, chips' simulators and devices agree on.

The picture is divided into the cells of `STRIDES`. Each cell has one score (a logit) for every class and `4 × BINS`
logits: the distances from its centre to the box's left, top, right and bottom side, in strides, each as a distribution
over 0 … `BINS` − 1. The int8 file has two outputs, boxes [1, cells, 4 × BINS] and scores [1, cells, classes], which
need no operation that an accelerator lacks. The float network, and what other chips' compilers make of it, has two for
each stride: boxes [1, 4 × BINS, height, width] and scores from 0 to 1 [1, classes, height, width]. Reading them is left
to the device.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

BINS = 16
CODES = 4 * BINS
STRIDES = (8, 16, 32)
SCORE_THRESHOLD = 0.01
IOU_THRESHOLD = 0.5
MAX_DETECTIONS = 100
# Suppression looks at so many boxes of the highest scores: with a hundred objects, ten for each.
MAX_CANDIDATES = 1000
# Scores of 0 and 1, which a chip's rounding makes, have no logit.
_LOWEST_SCORE = 1e-6


@dataclass(frozen=True)
class OutputTensor:
    """An output, one row for each cell; its values stand for (value − `zero_point`) × `scale`."""

    values: NDArray[Any]
    scale: float = 1.0
    zero_point: int = 0

    def rows(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Returns some rows as real numbers."""
        import numpy as np

        values: NDArray[Any] = self.values[indices].astype(np.float32)
        return (values - self.zero_point) * self.scale


@dataclass(frozen=True)
class FoundBoxes:
    """Detections, best score first: boxes (n, 4) as ymin, xmin, ymax, xmax, relative; classes from 0."""

    boxes: NDArray[Any]
    classes: NDArray[Any]
    scores: NDArray[Any]


def has_distributions(details: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an interpreter's outputs, of which these are the details, are boxes and scores."""
    if len(details) != 2:
        return False
    boxes, scores = ([int(size) for size in item.get("shape", ())] for item in details)
    cells = boxes[1] if len(boxes) == 3 else 0
    side = input_side(cells)
    return (
        cells == cell_count(side) > 0 and boxes == [1, cells, CODES] and len(scores) == 3 and scores[:2] == [1, cells]
    )


def has_levels(shapes: Sequence[Sequence[int]], side: int) -> bool:
    """Whether outputs of these shapes are boxes and scores of each stride, for an input of `side` pixels."""
    channels = (CODES, shapes[1][1]) if len(shapes) > 1 and len(shapes[1]) == 4 else (CODES, 0)
    cells = ((stride, kind) for stride in STRIDES for kind in channels)
    return [tuple(shape) for shape in shapes] == [(1, kind, side // stride, side // stride) for stride, kind in cells]


def cell_count(side: int) -> int:
    """Returns the number of cells of all strides."""
    return sum((side // stride) ** 2 for stride in STRIDES)


def input_side(cells: int) -> int:
    """Returns the side of the input, a multiple of the largest stride, that has so many cells."""
    return max(STRIDES) * math.isqrt(cells // cell_count(max(STRIDES)))


def read_tensors(interpreter: Any) -> FoundBoxes:
    """Reads an interpreter's outputs, which have distributions, after `invoke`."""
    boxes, scores = (
        OutputTensor(interpreter.get_tensor(item["index"])[0], *_quantization(item["quantization"]))
        for item in interpreter.get_output_details()
    )
    return find_boxes(boxes, scores)


def _quantization(given: tuple[float, int]) -> tuple[float, int]:
    """An output of floats has the scale 0."""
    scale, zero_point = given
    return (float(scale), int(zero_point)) if scale else (1.0, 0)


@functools.lru_cache(maxsize=4)
def cell_grid(side: int) -> NDArray[Any]:
    """Returns centre and size of each cell as (y, x, height, width), relative: stride after stride, row by row."""
    import numpy as np

    levels = []
    for stride in STRIDES:
        count = side // stride
        centers = (np.arange(count, dtype=np.float32) + 0.5) / count
        y, x = np.meshgrid(centers, centers, indexing="ij")
        size = np.full_like(y, stride / side)
        levels.append(np.stack([y, x, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(levels)


def decode(codes: NDArray[Any], cells: NDArray[Any]) -> NDArray[Any]:
    """Returns the corner boxes (n, 4) of codes (n, 4 × BINS) at their cells (n, 4)."""
    import numpy as np

    logits = codes.reshape(-1, 4, BINS).astype(np.float32)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distances = weights @ np.arange(BINS, dtype=np.float32) / weights.sum(axis=-1)
    left, top, right, bottom = distances.T
    y, x, height, width = cells.T
    return np.stack([y - top * height, x - left * width, y + bottom * height, x + right * width], axis=1)


def find_boxes(boxes: OutputTensor, scores: OutputTensor, *, max_detections: int = MAX_DETECTIONS) -> FoundBoxes:
    """Returns the detections of one picture; each cell stands for the class of its highest score."""
    import numpy as np

    threshold = math.log(SCORE_THRESHOLD / (1 - SCORE_THRESHOLD)) / scores.scale + scores.zero_point
    best = scores.values.max(axis=1)
    candidates = np.flatnonzero(best > threshold)
    candidates = candidates[np.argsort(-best[candidates].astype(np.float32), kind="stable")][:MAX_CANDIDATES]
    logits = scores.rows(candidates)
    classes = logits.argmax(axis=1)
    corners = decode(boxes.rows(candidates), cell_grid(input_side(len(best)))[candidates])
    kept = suppress(corners, classes, max_detections=max_detections)
    return FoundBoxes(
        boxes=np.clip(corners[kept], 0.0, 1.0),
        classes=classes[kept],
        scores=1.0 / (1.0 + np.exp(-logits.max(axis=1, initial=-np.inf)[kept])),
    )


def find_level_boxes(outputs: Sequence[NDArray[Any]], *, max_detections: int = MAX_DETECTIONS) -> FoundBoxes:
    """Returns the detections of one picture in boxes and scores of each stride, without their first axis."""
    import numpy as np

    codes, scores = (
        np.concatenate([level.reshape(len(level), -1).T for level in outputs[kind::2]]) for kind in range(2)
    )
    shares = np.clip(scores.astype(np.float64), _LOWEST_SCORE, 1.0 - _LOWEST_SCORE)
    logits = np.log(shares / (1.0 - shares))
    return find_boxes(OutputTensor(codes), OutputTensor(logits), max_detections=max_detections)


def suppress(boxes: NDArray[Any], classes: NDArray[Any], *, max_detections: int) -> list[int]:
    """Returns the indices of the boxes, best first, that no better box of their class covers."""
    import numpy as np

    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left) and len(kept) < max_detections:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
        covered = shared > IOU_THRESHOLD * (areas[best] + areas[left] - shared)
        left = left[~covered | (classes[left] != classes[best])]
    return kept
