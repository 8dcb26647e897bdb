"""What the robot is told about one object: label, score, box inside the frame, and the angles to its centre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_contract.release import Detection


@dataclass(frozen=True)
class FieldOfView:
    """The camera's whole opening angles in degrees."""

    horizontal: float = 60.0
    vertical: float = 47.0


@dataclass(frozen=True)
class Observation:
    """Coordinates are relative to the frame, 0…1, from the top left. Yaw is positive to the right, pitch positive
    upwards, in degrees from the centre of the frame; area is relative to the frame's."""

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
    """The detections that count as seen: score of at least the class's threshold, clipped to the frame."""
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


def _angle(offset: float, opening_degrees: float) -> float:
    """The angle of a point `offset` frame widths off the centre, for a lens without distortion."""
    return math.degrees(math.atan(2 * offset * math.tan(math.radians(opening_degrees / 2))))
