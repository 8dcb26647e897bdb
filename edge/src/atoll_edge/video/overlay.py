"""Draws boxes and labels on a frame, in the style of the seed's stream."""

from collections.abc import Sequence

from atoll_edge.camera.source import BgrImage
from atoll_edge.robot.detection import Observation

BOX = (10, 255, 0)
TEXT = (0, 0, 0)
PAPER = (255, 255, 255)


def annotated(image: BgrImage, observations: Sequence[Observation], footer: str) -> BgrImage:
    """Returns a copy of a BGR image [h, w, 3] with the observations, best first, and a line of text at its bottom."""
    drawn: BgrImage = image.copy()
    height, width = drawn.shape[:2]
    for seen in reversed(observations):  # the best is drawn last, above the others
        _draw_box(drawn, seen, width, height)
    _write(drawn, footer, (2, height - 4), scale=max(0.35, height / 900))
    return drawn


def _draw_box(image: BgrImage, seen: Observation, width: int, height: int) -> None:
    import cv2

    corner = (int(seen.xmin * width), int(seen.ymin * height))
    other = (int(seen.xmax * width), int(seen.ymax * height))
    cv2.rectangle(image, corner, other, BOX, max(1, height // 160))
    scale = max(0.35, height / 700)
    _write(image, f"{seen.label}: {seen.score:.0%}", (corner[0], max(corner[1], round(26 * scale))), scale=scale)


def _write(image: BgrImage, text: str, at: tuple[int, int], *, scale: float) -> None:
    import cv2

    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    # A label at the right edge is moved in, so that all of it can be read.
    at = (max(0, min(at[0], image.shape[1] - width)), at[1])
    paper = ((at[0], at[1] - height - below), (at[0] + width, at[1] + below))
    cv2.rectangle(image, *paper, PAPER, cv2.FILLED)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT, 1, cv2.LINE_AA)
