"""An observation as the robot gets it: label, score, box within the frame, and the angles to the box's centre."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from atoll_contract.release import Detection
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.robot.lens import Lens

# A box that reaches the frame's edge is of an object of which a part is missing.
EDGE = 0.005


@dataclass(frozen=True)
class Observation:
    """One seen object. Coordinates and area are relative to the frame, 0…1, from its top left. Yaw and pitch are in
    degrees from the camera's axis; yaw is positive to the right, pitch upwards. `distance` is in metres from the
    camera; 0 where the width of such an object is not known, or a part of it is not in the frame."""

    class_id: int
    label: str
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    yaw: float
    pitch: float
    area: float
    distance: float = 0.0


@dataclass(frozen=True)
class View:
    """What one camera makes of a box: its lens, and the true widths of objects in metres, by label."""

    lens: Lens
    widths: Mapping[str, float] = field(default_factory=dict)

    def of(self, model: LoadedModelSpec) -> "View":
        """Returns the view with the widths that the model's release knows; those of the settings go before."""
        return replace(self, widths={**dict(model.widths), **self.widths}) if model.widths else self


def observe(
    detections: Sequence[Detection], *, labels: Sequence[str], thresholds: Sequence[float], view: View
) -> tuple[Observation, ...]:
    """Returns the detections whose score reaches the threshold of their class, clipped to the frame.

    `labels` and `thresholds` are by class id; detections of other classes are left out.
    """
    seen = []
    for detection in detections:
        known = 0 <= detection.class_id < len(labels)
        if known and detection.score >= thresholds[detection.class_id]:
            seen.append(_observation(detection, labels[detection.class_id], view))
    return tuple(seen)


def _observation(detection: Detection, label: str, view: View) -> Observation:
    ymin, xmin, ymax, xmax = (min(max(value, 0.0), 1.0) for value in detection.box)
    x, y = view.lens.direction((xmin + xmax) / 2, (ymin + ymax) / 2)
    width = view.widths.get(label)
    return Observation(
        class_id=detection.class_id,
        label=label,
        score=detection.score,
        xmin=xmin,
        ymin=ymin,
        xmax=xmax,
        ymax=ymax,
        yaw=math.degrees(math.atan(x)),
        pitch=-math.degrees(math.atan(y)),
        area=max(xmax - xmin, 0.0) * max(ymax - ymin, 0.0),
        distance=0.0 if width is None else _distance((ymin, xmin, ymax, xmax), width, view.lens),
    )


def _distance(box: tuple[float, float, float, float], width: float, lens: Lens) -> float:
    """Returns the distance of an object that is `width` wide, across the camera's axis."""
    ymin, xmin, ymax, xmax = box
    if min(xmin, ymin) < EDGE or max(xmax, ymax) > 1 - EDGE:
        return 0.0
    middle = (ymin + ymax) / 2
    (left, left_y), (right, right_y) = lens.direction(xmin, middle), lens.direction(xmax, middle)
    apart = right - left
    x, y = (left + right) / 2, (left_y + right_y) / 2
    return width / apart * math.sqrt(1 + x * x + y * y) if apart > 0 else 0.0
