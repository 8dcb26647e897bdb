"""Frame sources without a camera: a folder of images or a video file in a loop, and a drawn scene."""

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_edge.camera.source import Frame, FrameRateLimiter

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
# Larger images are scaled down: no camera of a robot gives more, and the detector resizes them anyway.
MAX_SIDE = 1920
# The synthetic scene: its background, and the frames that a square takes from one side to the other.
GREY = 110
PERIOD = 120


class SourceError(ValueError):
    """A file or folder has no readable image; the text says which one, and what is allowed."""


class ImageSource:
    """Repeats the images of a folder, in the order of their names, or the frames of a video file, at `fps`.

    Raises:
        SourceError: there is no readable image.
    """

    connected = True

    def __init__(self, path: Path, *, fps: float, now_us: Callable[[], int]) -> None:
        self._path = path
        self._fps = fps
        self._now_us = now_us
        self._limiter = FrameRateLimiter(fps)
        self._number = 0
        self._images = _folder(path) if path.is_dir() else _video(path)
        self._first = next(self._images)

    @property
    def description(self) -> str:
        return self._path.name

    @property
    def mode(self) -> tuple[int, int, int]:
        height, width = self._first.shape[:2]
        return width, height, round(self._fps)

    def grab(self, timeout_seconds: float) -> Frame | None:
        if not self._limiter.wait(timeout_seconds):
            return None
        image = self._first if self._number == 0 else next(self._images)
        self._number += 1
        return Frame(image, self._number, self._now_us())

    def close(self) -> None:
        self._images.close()


def _folder(folder: Path) -> "Generator[NDArray[uint8]]":
    names = sorted(item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES)
    return _looped(lambda: (_read(item) for item in names), what=f"{folder} (pictures {', '.join(sorted(SUFFIXES))})")


def _video(path: Path) -> "Generator[NDArray[uint8]]":
    return _looped(lambda: _video_frames(path), what=str(path))


def _looped(frames: Callable[[], "Iterator[NDArray[uint8] | None]"], *, what: str) -> "Generator[NDArray[uint8]]":
    while True:
        found = False
        for image in frames():
            if image is not None:
                found = True
                yield _limited(image)
        if not found:
            raise SourceError(f"there is no picture to read in {what}")


def _read(path: Path) -> "NDArray[uint8] | None":
    import cv2

    image: NDArray[uint8] | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        logger.warning("skipped %s: not a picture", path)
    return image


def _video_frames(path: Path) -> "Generator[NDArray[uint8]]":
    import cv2

    if not path.is_file():
        raise SourceError(f"there is no file or folder {path}")
    video = cv2.VideoCapture(str(path))
    try:
        while True:
            read, image = video.read()
            if not read:
                return
            yield image
    finally:
        video.release()


def _limited(image: "NDArray[uint8]") -> "NDArray[uint8]":
    longest = max(image.shape[:2])
    if longest <= MAX_SIDE:
        return image
    import cv2

    factor = MAX_SIDE / longest
    smaller: NDArray[uint8] = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return smaller


class SyntheticSource:
    """Draws a scene with two moving squares at `fps`."""

    connected = True
    description = "synthetic"

    def __init__(self, width: int, height: int, *, fps: float, now_us: Callable[[], int]) -> None:
        self._size = (width, height)
        self._fps = fps
        self._now_us = now_us
        self._limiter = FrameRateLimiter(fps)
        self._number = 0

    @property
    def mode(self) -> tuple[int, int, int]:
        return (*self._size, round(self._fps))

    def grab(self, timeout_seconds: float) -> Frame | None:
        if not self._limiter.wait(timeout_seconds):
            return None
        self._number += 1
        return Frame(draw_scene(*self._size, self._number), self._number, self._now_us())

    def close(self) -> None:
        """Nothing is held."""


def draw_scene(width: int, height: int, number: int) -> "NDArray[uint8]":
    """Draws frame `number` of the scene, BGR [h, w, 3]; the squares are an eighth of the frame's height wide."""
    import numpy as np

    image: NDArray[uint8] = np.full((height, width, 3), GREY, np.uint8)
    side = height // 8
    across = (number % PERIOD) / PERIOD
    x = int(across * (width - side))
    image[height // 4 : height // 4 + side, x : x + side] = (0, 0, 255)
    image[height // 2 : height // 2 + side, width - side - x : width - x] = (255, 0, 0)
    return image
