"""A drawn scene for a machine without a camera: a red and a blue square that move over grey."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from atoll_edge.frames.frame import Frame
from atoll_edge.frames.pacer import Pacer

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

GREY = 110
PERIOD = 120


class SyntheticSource:
    """Frames of a drawn scene at `fps`."""

    connected = True
    description = "synthetic"

    def __init__(self, width: int, height: int, *, fps: float, now_us: Callable[[], int]) -> None:
        self._size = (width, height)
        self._fps = fps
        self._now_us = now_us
        self._pacer = Pacer(fps)
        self._number = 0

    @property
    def mode(self) -> tuple[int, int, int]:
        return (*self._size, round(self._fps))

    def grab(self, timeout_seconds: float) -> Frame | None:
        if not self._pacer.wait(timeout_seconds):
            return None
        self._number += 1
        return Frame(draw_scene(*self._size, self._number), self._number, self._now_us())

    def close(self) -> None:
        """Nothing is held."""


def draw_scene(width: int, height: int, number: int) -> "NDArray[uint8]":
    """Frame `number` of the scene, BGR [h, w, 3]: squares an eighth of the frame's height wide."""
    import numpy as np

    picture: NDArray[uint8] = np.full((height, width, 3), GREY, np.uint8)
    side = height // 8
    across = (number % PERIOD) / PERIOD
    x = int(across * (width - side))
    picture[height // 4 : height // 4 + side, x : x + side] = (0, 0, 255)
    picture[height // 2 : height // 2 + side, width - side - x : width - x] = (255, 0, 0)
    return picture
