"""An observation as the robot gets it: label, score, box within the frame, and the angles to the box's centre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_contract.release import Detection


@dataclass(frozen=True)
class FieldOfView:
    """The camera's full angles of view in degrees."""

    horizontal: float = 60.0
    vertical: float = 47.0


@dataclass(frozen=True)
class Observation:
    """One seen object. Coordinates and area are relative to the frame, 0…1, from its top left. Yaw and pitch are in
    degrees from the centre of the frame; yaw is positive to the right, pitch upwards."""

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


def observe(
    detections: Sequence[Detection], *, labels: Sequence[str], thresholds: Sequence[float], view: FieldOfView
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


def _observation(detection: Detection, label: str, view: FieldOfView) -> Observation:
    ymin, xmin, ymax, xmax = (min(max(value, 0.0), 1.0) for value in detection.box)
    return Observation(
        class_id=detection.class_id,
        label=label,
        score=detection.score,
        xmin=xmin,
        ymin=ymin,
        xmax=xmax,
        ymax=ymax,
        yaw=_angle((xmin + xmax) / 2 - 0.5, view.horizontal),
        pitch=_angle(0.5 - (ymin + ymax) / 2, view.vertical),
        area=max(xmax - xmin, 0.0) * max(ymax - ymin, 0.0),
    )


def _angle(offset: float, view_degrees: float) -> float:
    """Returns the angle in degrees of a point `offset` frame widths off the centre, for a lens without distortion."""
    return math.degrees(math.atan(2 * offset * math.tan(math.radians(view_degrees / 2))))
