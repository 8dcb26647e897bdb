"""Frame sources without a camera: a folder of images or a video file in a loop, and a drawn scene."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from atoll_contract.video import NO_VIDEO, video_problem
from atoll_edge.camera.source import BgrImage, Frame, FrameRateLimiter

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
# Larger images are scaled down: no camera of a robot gives more, and the detector resizes them anyway.
MAX_SIDE = 1920
# The synthetic scene: its background, and the frames that a square takes from one side to the other.
GREY = 110
PERIOD = 120


class SourceError(ValueError):
    """A file or folder has no readable image; the text says which one, and what is allowed."""


class TimedSource(ABC):
    """Gives images at `fps`, with their time on the clock `now_us`."""

    connected = True

    def __init__(self, fps: float, now_us: Callable[[], int]) -> None:
        self._fps = fps
        self._now_us = now_us
        self._limiter = FrameRateLimiter(fps)
        self._number = 0

    def grab(self, timeout_seconds: float) -> Frame | None:
        if not self._limiter.wait(timeout_seconds):
            return None
        self._number += 1
        return Frame(self._image(self._number), self._number, self._now_us())

    @abstractmethod
    def _image(self, number: int) -> BgrImage:
        """Returns the image of frame `number`, from 1."""


class ImageSource(TimedSource):
    """Repeats the images of a folder, in the order of their names, or the frames of a video file.

    Raises:
        SourceError: there is no readable image.
    """

    def __init__(self, path: Path, *, fps: float, now_us: Callable[[], int]) -> None:
        super().__init__(fps, now_us)
        self.description = path.name
        self._images = _folder(path) if path.is_dir() else _video(path)
        self._first = next(self._images)

    @property
    def mode(self) -> tuple[int, int, int]:
        height, width = self._first.shape[:2]
        return width, height, round(self._fps)

    def _image(self, number: int) -> BgrImage:
        return self._first if number == 1 else next(self._images)

    def close(self) -> None:
        self._images.close()


def _folder(folder: Path) -> Generator[BgrImage]:
    names = sorted(item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES)
    empty = f"there is no picture to read in {folder} (pictures {', '.join(sorted(SUFFIXES))})"
    return _looped(lambda: (_read(item) for item in names), empty=empty)


def _video(path: Path) -> Generator[BgrImage]:
    """Reads a video, or a picture that says by its name that it is one."""
    if not path.is_file():
        raise SourceError(f"there is no file or folder {path}")
    problem = "" if path.suffix.lower() in SUFFIXES else video_problem(path)
    if problem:
        raise SourceError(f"{path}: {problem}")
    return _looped(lambda: _video_frames(path), empty=f"{path}: {NO_VIDEO}")


def _looped(frames: "Callable[[], Iterator[BgrImage | None]]", *, empty: str) -> Generator[BgrImage]:
    while True:
        found = False
        for image in frames():
            if image is not None:
                found = True
                yield _limited(image)
        if not found:
            raise SourceError(empty)


def _read(path: Path) -> "BgrImage | None":
    import cv2

    image: BgrImage | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        logger.warning("skipped %s: not a picture", path)
    return image


def _video_frames(path: Path) -> Generator[BgrImage]:
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        while True:
            read, image = video.read()
            if not read:
                return
            yield image
    finally:
        video.release()


def _limited(image: BgrImage) -> BgrImage:
    longest = max(image.shape[:2])
    if longest <= MAX_SIDE:
        return image
    import cv2

    factor = MAX_SIDE / longest
    smaller: BgrImage = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return smaller


class SyntheticSource(TimedSource):
    """Draws a scene with two moving squares."""

    description = "synthetic"

    def __init__(self, width: int, height: int, *, fps: float, now_us: Callable[[], int]) -> None:
        super().__init__(fps, now_us)
        self._size = (width, height)
        self.mode = (width, height, round(fps))

    def _image(self, number: int) -> BgrImage:
        return draw_scene(*self._size, number)

    def close(self) -> None:
        """Does nothing: the source holds nothing."""


def draw_scene(width: int, height: int, number: int) -> BgrImage:
    """Draws frame `number` of the scene, BGR [h, w, 3]; the squares are an eighth of the frame's height wide."""
    import numpy as np

    image: BgrImage = np.full((height, width, 3), GREY, np.uint8)
    side = height // 8
    across = (number % PERIOD) / PERIOD
    x = int(across * (width - side))
    image[height // 4 : height // 4 + side, x : x + side] = (0, 0, 255)
    image[height // 2 : height // 2 + side, width - side - x : width - x] = (255, 0, 0)
    return image
