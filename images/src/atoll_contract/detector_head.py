"""How the outputs of a float network, and of what a chip's compiler makes of it, become boxes: `detector.json`.

Export writes the document, the chips' simulators and devices read it. A network with distributions needs little of it
(`atoll_contract.box_distributions`). That of an SSD leaves class logits and box codes of its anchors, without the
post-processing operation that its int8 file ends in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atoll_contract.box_distributions import STRIDES, FoundBoxes
from atoll_contract.document import Document
from atoll_contract.images import Preprocessing, Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD_NAME = "detector.json"
# The outputs of the float network in their order: class logits and box codes of all anchors, or, of a detector with
# distributions, boxes (4 × bins channels) and scores (from 0 to 1) of each stride, as (1, channels, height, width).
NETWORK_OUTPUTS = ("logits", "codes")
LEVEL_OUTPUTS = tuple(f"{kind}_{stride}" for stride in STRIDES for kind in ("boxes", "scores"))


class DetectorHead(Document, frozen=True):
    """How the outputs of the float network become detections, as those of the int8 file do. `anchors` are centred
    (y, x, height, width), relative to the image. With `bins` the boxes are distributions, and there are no anchors."""

    side: int
    classes: tuple[str, ...]
    anchors: tuple[tuple[float, ...], ...]
    box_scales: tuple[float, ...]
    max_log_size: float
    max_detections: int
    score_threshold: float
    iou_threshold: float
    bins: int | None = None
    # None: images are squashed.
    preprocessing: Preprocessing | None = None

    @property
    def resize(self) -> Resize:
        """How images become the input."""
        return self.preprocessing.resize if self.preprocessing else Resize.SQUASH

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs, in their order."""
        return LEVEL_OUTPUTS if self.bins else NETWORK_OUTPUTS


def find_anchor_boxes(logits: NDArray[Any], codes: NDArray[Any], head: DetectorHead) -> FoundBoxes:
    """Returns the detections of one picture in class logits (anchors, classes) and box codes (anchors, 4).

    An anchor may stand for several classes; each is suppressed for itself.
    """
    import numpy as np

    # What a broken network computes may lie far beyond the range of a score.
    with np.errstate(over="ignore"):
        scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    boxes = decode_anchors(codes, head)
    kept = [
        (float(scores[anchor, label]), label, anchor)
        for label in range(scores.shape[1])
        for anchor in _suppressed(boxes, scores[:, label], head)
    ]
    kept = sorted(kept, key=lambda item: -item[0])[: head.max_detections]
    chosen = [anchor for _, _, anchor in kept]
    return FoundBoxes(
        boxes=np.clip(boxes[chosen], 0.0, 1.0).astype(np.float32).reshape(-1, 4),
        classes=np.array([label for _, label, _ in kept], np.int32),
        scores=np.array([score for score, _, _ in kept], np.float32),
    )


def decode_anchors(codes: NDArray[Any], head: DetectorHead) -> NDArray[Any]:
    """Returns the corner boxes (anchors, 4) of codes (ty, tx, th, tw) against the head's anchors."""
    import numpy as np

    anchors, scales, codes = np.array(head.anchors), np.array(head.box_scales), codes.astype(np.float64)
    center = codes[:, :2] / scales[:2] * anchors[:, 2:] + anchors[:, :2]
    size = np.exp(np.clip(codes[:, 2:], -head.max_log_size, head.max_log_size) / scales[2:]) * anchors[:, 2:]
    return np.concatenate([center - size / 2, center + size / 2], axis=1)


def _suppressed(boxes: NDArray[Any], scores: NDArray[Any], head: DetectorHead) -> list[int]:
    """The anchors of one class that are left after non-maximum suppression, best score first."""
    import numpy as np

    candidates = np.flatnonzero(scores > head.score_threshold)
    left = candidates[np.argsort(-scores[candidates], kind="stable")]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while len(left) and len(kept) < head.max_detections:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
        left = left[shared <= head.iou_threshold * (areas[best] + areas[left] - shared)]
    return kept
