"""Reading a detector's outputs: the four tensors of `TFLite_Detection_PostProcess`, or boxes and scores as
`atoll_contract.box_distributions` has them, of all cells or of each stride, or class logits and box codes of anchors.
The four are in the order that pycoral's `detect.get_objects` takes.

With one signature: `output_0` count, `output_1` scores, `output_2` class ids, `output_3` boxes. Without: boxes, class
ids, scores, count where the last output holds one number, else scores, boxes, count, class ids. Entries past the count
are garbage. Boxes are [ymin, xmin, ymax, xmax], relative to the image, and may reach beyond it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll_contract.box_distributions import STRIDES, find_level_boxes, has_distributions, has_levels, read_tensors
from atoll_contract.detector_head import HEAD_NAME, DetectorHead, find_anchor_boxes
from atoll_contract.release import Detection


class OutputsError(ValueError):
    """The tensors are not those of a detector."""


@dataclass(frozen=True)
class ModelOutput:
    """The finite detections of one image, best first, and the number of entries that were left out as not finite."""

    detections: tuple[Detection, ...]
    non_finite: int


def read_outputs(interpreter: Any) -> ModelOutput:
    """Reads the detections from an interpreter's output tensors after `invoke`.

    Raises:
        OutputsError: the outputs are neither four tensors of the expected sizes nor boxes and scores.
    """
    if has_distributions(interpreter.get_output_details()):
        found = read_tensors(interpreter)
        return _finite((found.boxes, found.classes, found.scores))
    boxes, class_ids, scores, count = _tensors(interpreter)
    total = int(count)
    if not 0 <= total <= len(scores):
        raise OutputsError(f"the model counts {total} detections in tensors for {len(scores)}")
    return _finite((boxes[:total], class_ids[:total], scores[:total]))


def read_levels(outputs: Sequence[Any], side: int) -> ModelOutput:
    """Reads the detections from the outputs of a compiled network that leaves boxes and scores of each stride.

    Raises:
        OutputsError: they are not those of a detector with distributions for an input of `side` pixels.
    """
    import numpy as np

    shapes = [list(output.shape) for output in outputs]
    if not has_levels(shapes, side):
        count = 2 * len(STRIDES)
        raise OutputsError(
            f"the outputs {shapes} are not boxes [1,64,h,w] and scores [1,classes,h,w] of the strides 8, 16 and 32 for "
            f"{side} pixels; the network of a model.architecture dfl-… has these {count}, that of an ssd-… needs the "
            f"release's {HEAD_NAME}, which older releases lack: train it again"
        )
    found = find_level_boxes([output[0] for output in outputs])
    # A cell without a number is no detection, and would be missed in silence.
    broken = sum(int(np.count_nonzero(~np.isfinite(scores))) for scores in outputs[1::2])
    read = _finite((found.boxes, found.classes, found.scores))
    return ModelOutput(read.detections, read.non_finite + broken)


def read_anchors(outputs: Sequence[Any], head: DetectorHead) -> ModelOutput:
    """Reads the detections from the outputs of an SSD's compiled network: class logits and box codes of all anchors.

    Raises:
        OutputsError: they are not those of the head's anchors and classes.
    """
    import numpy as np

    shapes = [list(output.shape) for output in outputs]
    anchors, classes = len(head.anchors), len(head.classes)
    if shapes != [[1, anchors, classes], [1, anchors, 4]]:
        raise OutputsError(
            f"the outputs {shapes} are not class logits [1,{anchors},{classes}] and box codes [1,{anchors},4], as the "
            f"release's {HEAD_NAME} says"
        )
    logits, codes = (output[0] for output in outputs)
    found = find_anchor_boxes(logits, codes, head)
    # A score that is no number is no detection, and would be missed in silence.
    broken = int(np.count_nonzero(np.isnan(logits)))
    read = _finite((found.boxes, found.classes, found.scores))
    return ModelOutput(read.detections, read.non_finite + broken)


def _finite(tensors: tuple[Any, Any, Any]) -> ModelOutput:
    """Returns the detections of boxes, class ids and scores."""
    found, non_finite = [], 0
    # Converted to Python numbers in one call: one by one takes longer than all the rest.
    for corners, class_id, score in zip(*(tensor.tolist() for tensor in tensors), strict=True):
        box = tuple(corners)
        if all(map(math.isfinite, (*box, score, class_id))):
            found.append(Detection(class_id=int(class_id), score=score, box=box))
        else:
            non_finite += 1
    found.sort(key=lambda detection: -detection.score)
    return ModelOutput(tuple(found), non_finite)


def _tensors(interpreter: Any) -> tuple[Any, Any, Any, float]:
    """Returns boxes [n, 4], class ids [n], scores [n] and the count."""
    ordered = _by_signature(interpreter) or _by_position(interpreter)
    boxes, class_ids, scores, count = ordered
    if boxes.ndim != 3 or boxes.shape[2] != 4 or class_ids.shape != boxes.shape[:2] or scores.shape != boxes.shape[:2]:
        shapes = [list(tensor.shape) for tensor in ordered]
        raise OutputsError(f"the outputs {shapes} are not boxes [1,n,4], class ids [1,n], scores [1,n] and a count")
    number = float(count.reshape(-1)[0])
    if not math.isfinite(number):
        raise OutputsError("the count of detections is not a number")
    return boxes[0], class_ids[0], scores[0], number


def _by_signature(interpreter: Any) -> tuple[Any, ...] | None:
    signatures = interpreter._get_full_signature_list()
    if not signatures:
        return None
    if len(signatures) > 1:
        raise OutputsError(f"the model has {len(signatures)} signatures; a detector has one or none")
    outputs = next(iter(signatures.values()))["outputs"]
    names = ("output_3", "output_2", "output_1", "output_0")
    missing = [name for name in names if name not in outputs]
    if missing:
        raise OutputsError(f"the model's signature lacks {missing[0]}")
    return tuple(interpreter.get_tensor(outputs[name]) for name in names)


def _by_position(interpreter: Any) -> tuple[Any, ...]:
    details = interpreter.get_output_details()
    if len(details) != 4:
        raise OutputsError(f"the model has {len(details)} outputs; a detector has 4, or boxes and scores")
    tensors = [interpreter.get_tensor(detail["index"]) for detail in details]
    if tensors[3].size == 1:
        return tuple(tensors)
    scores, boxes, count, class_ids = tensors
    return boxes, class_ids, scores, count


def intersection_over_union(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the IoU of two boxes [ymin, xmin, ymax, xmax]; 0 for boxes that do not overlap."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    both = height * width
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
