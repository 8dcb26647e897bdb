"""A model on a video: decode, detect, draw and encode at once, each in threads of its own, frames in their order.

The interpreter, FFmpeg and OpenCV let go of Python's lock while they work, so the threads share the machine's cores.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atoll_edge.detector.pool import DetectorPool
from atoll_edge.models.served import DEFAULT_THRESHOLD, ServedModel
from atoll_edge.robot.observation import FieldOfView, Observation, observe
from atoll_edge.video.annotate import annotated
from atoll_edge.video.doubt import REACH, nearest_to
from atoll_edge.video.film import Film, FilmFrame
from atoll_edge.video.mp4 import Mp4

Item = TypeVar("Item")
Result = TypeVar("Result")

# Frames that wait between two steps, beside those that are worked on: enough to bridge a slow one, little memory.
WAITING = 4


@dataclass(frozen=True)
class Look:
    """What the model said of one frame: what counts as seen, and the detection whose score is nearest its threshold.

    `unnamed` counts sure detections of classes that the label map does not name: it is that of another model.
    """

    frame: FilmFrame
    seen: tuple[Observation, ...]
    nearest: Observation | None
    unnamed: int


class Trial:
    """One model; runs on videos one after the other.

    Raises:
        LoadError: LiteRT cannot load the model.
    """

    def __init__(self, model: ServedModel, *, workers: int) -> None:
        assert model.cpu_path is not None
        self.model = model
        self._pool = DetectorPool(model.cpu_path, workers=workers)

    def run(self, film: Film, target: Path) -> Generator[Look]:
        """Yield what the model says of each frame, and write it drawn into `target` by the time the last was yielded.

        A video that cannot be read gives no frame and no file; `film.problem` says why.

        Raises:
            LoadError: the model's outputs are not a detector's.
            OSError: the video cannot be written.
        """
        frames = iter(film)
        first = next(frames, None)
        if first is None:
            return
        height, width = first.picture.shape[:2]
        with Mp4(target, width=width, height=height, rate=film.rate) as video:

            def write(look: Look) -> Look:
                footer = f"{self.model.name}  frame {look.frame.number}"
                video.add(annotated(look.frame.picture, look.seen, footer), look.frame.seconds)
                return look

            looks = in_order(self._look, _led_by(first, frames), workers=self._pool.workers)
            yield from in_order(write, looks, workers=1)

    def _look(self, frame: FilmFrame) -> Look:
        model = self.model
        floor = tuple(limit - REACH for limit in model.thresholds)
        found = self._pool.detect(frame.picture).detections
        candidates = observe(found, labels=model.labels, thresholds=floor, view=FieldOfView())
        seen = tuple(item for item in candidates if item.score >= model.thresholds[item.class_id])
        unnamed = sum(item.class_id >= len(model.labels) and item.score >= DEFAULT_THRESHOLD for item in found)
        return Look(frame, seen, nearest_to(model.thresholds, candidates), unnamed)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """`work` of each item in `workers` threads, in the items' order; a few items are taken ahead.

    Raises what `work` or the iteration raises; items already taken ahead are then dropped.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= workers + WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _led_by(first: FilmFrame, rest: Iterator[FilmFrame]) -> Iterator[FilmFrame]:
    yield first
    yield from rest
