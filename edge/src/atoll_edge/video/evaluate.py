"""A model on a video: decode, detect, draw and encode at once, each in threads of its own, frames in their order.

The interpreter, FFmpeg and OpenCV let go of Python's lock while they work, so the threads share the machine's cores.
"""

import csv
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage_result import Progress, emit
from atoll_edge.detector.model import DEFAULT_THRESHOLD, ServedModel
from atoll_edge.detector.pool import DetectorPool
from atoll_edge.robot.detection import FieldOfView, Observation, observe
from atoll_edge.video.contact_sheet import REACH, Doubt, DoubtfulMoments, distance, nearest_to, thumbnail, write_sheet
from atoll_edge.video.files import Film, FilmFrame, Mp4
from atoll_edge.video.overlay import annotated

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


@dataclass
class Tally:
    """What was seen in one video. `frames_with` counts the frames in which a class occurs at all."""

    labels: Sequence[str]
    frames: int = 0
    seconds: float = 0.0
    frames_in: Counter[int] = field(default_factory=Counter)
    seen_in: dict[int, Counter[str]] = field(default_factory=dict)
    frames_with: Counter[str] = field(default_factory=Counter)

    def add(self, seconds: float, seen: Sequence[Observation]) -> None:
        """Count a frame, `seconds` after the first."""
        second = int(seconds)
        self.frames += 1
        self.seconds = seconds
        self.frames_in[second] += 1
        self.seen_in.setdefault(second, Counter()).update(item.label for item in seen)
        self.frames_with.update({item.label for item in seen})

    @property
    def totals(self) -> Counter[str]:
        return sum(self.seen_in.values(), Counter())

    def document(self) -> dict[str, Any]:
        """The figures for `summary.json`: of each class, and of each second that has frames."""
        totals = self.totals
        # A frame lasts until the next one; the last as long as the others did on average.
        length = self.seconds * self.frames / (self.frames - 1) if self.frames > 1 else 0.0
        return {
            "frames": self.frames,
            "seconds": round(length, 3),
            "frameRate": round(self.frames / length, 3) if length else None,
            "perClass": {
                label: {
                    "detections": totals[label],
                    "frames": self.frames_with[label],
                    "perSecond": round(totals[label] / length, 2) if length else None,
                }
                for label in self.labels
                if totals[label]
            },
            "perSecond": [
                {"second": second, "frames": self.frames_in[second], "detections": dict(self.seen_in[second])}
                for second in sorted(self.frames_in)
            ],
        }


TABLE, SHEET, SUMMARY = "detections.csv", "least-certain.jpg", "summary.json"
COLUMNS = ("video", "frame", "seconds", "label", "score", "xmin", "ymin", "xmax", "ymax")
SHOWN_DOUBTS = 12
TELL_SECONDS = 1.0
MOST_WORKERS = 8


def try_films(model: ServedModel, films: Sequence[Film], output: Path) -> dict[str, Any]:
    """Run the model on the films, write everything into `output`, and say what `summary.json` says.

    Raises:
        DatasetError: no film could be read.
        LoadError: the model is none that LiteRT runs.
        OSError: something cannot be written.
    """
    if all(film.problem for film in films):
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(films)}")
    session = Session(Trial(model, workers=workers()), films, output)
    started = time.monotonic()
    with _table(output / TABLE) as rows:
        videos = [session.run(film, rows) for film in films]
    elapsed = time.monotonic() - started
    frames = sum(video["frames"] for video in videos)
    if not frames:
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(films)}")
    document = {
        "model": _description(model),
        "videos": videos,
        "leastCertain": session.write_sheet(),
        "speed": {"wallSeconds": round(elapsed, 2), "framesPerSecond": round(frames / elapsed, 1)},
    }
    (output / SUMMARY).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return document


def workers() -> int:
    """An interpreter for each core: decoding and encoding take what it leaves."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores)


@dataclass
class Session:
    """The films of one call: what is told while they are worked on, and the doubtful moments of all of them."""

    trial: Trial
    films: Sequence[Film]
    output: Path

    def __post_init__(self) -> None:
        self._doubts = DoubtfulMoments()
        self._expected = sum(film.expected for film in self.films)
        self._done = 0
        self._started = self._told = time.monotonic()

    def run(self, film: Film, rows: Any) -> dict[str, Any]:
        """One video; its part of the summary."""
        tally = Tally(self.trial.model.labels)
        target = self.output / f"{film.name}.mp4"
        size, unnamed = (0, 0), 0
        with closing(self.trial.run(film, target)) as looks:
            for look in looks:
                height, width = look.frame.picture.shape[:2]
                size = (width, height)
                rows.writerows(_rows(film.name, look))
                tally.add(look.frame.seconds, look.seen)
                unnamed += look.unnamed
                self._doubt(film.name, look)
                self._done += 1
                self._tell(film)
        file = target.name if tally.frames else None
        about = {"name": film.name, "file": film.path.name, "annotated": file, "width": size[0], "height": size[1]}
        return {**about, "problem": film.problem, "unnamedDetections": unnamed, **tally.document()}

    def write_sheet(self) -> list[dict[str, Any]]:
        """Write the contact sheet, if there is a doubtful frame at all; the frames on it."""
        chosen = self._doubts.chosen(SHOWN_DOUBTS)
        if chosen:
            title = f"{self.trial.model.name}: the frames with a score nearest its threshold"
            write_sheet(self.output / SHEET, chosen, title)
        return [
            {
                "video": item.video,
                "frame": item.frame,
                "seconds": round(item.seconds, 3),
                "label": item.nearest.label,
                "score": round(item.nearest.score, 4),
            }
            for item in chosen
        ]

    def _doubt(self, video: str, look: Look) -> None:
        nearest, frame = look.nearest, look.frame
        if nearest is None:
            return
        away = distance(self.trial.model.thresholds, nearest)
        if self._doubts.wants(video, frame.seconds, away):
            picture = thumbnail(frame.picture)
            self._doubts.add(Doubt(video, frame.number, frame.seconds, away, nearest, look.seen, picture))

    def _tell(self, film: Film) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        rate = self._done / (now - self._started)
        share = min(1.0, self._done / self._expected) if self._expected else 0.0
        left = (self._expected - self._done) / rate if self._expected > self._done else None
        words = f"{film.name}: {rate:.0f} frames/s"
        emit(Progress(100 * share, message=words, pictures=self._done, eta_seconds=left), sys.stderr)


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield writer


def _rows(video: str, look: Look) -> Iterator[tuple[object, ...]]:
    height, width = look.frame.picture.shape[:2]
    for item in look.seen:
        box = (item.xmin * width, item.ymin * height, item.xmax * width, item.ymax * height)
        corners = (f"{value:.1f}" for value in box)
        yield (video, look.frame.number, f"{look.frame.seconds:.3f}", item.label, f"{item.score:.4f}", *corners)


def _description(model: ServedModel) -> dict[str, Any]:
    thresholds = dict(zip(model.labels, model.thresholds, strict=True))
    return {"name": model.name, "digest": model.digest, "labels": list(model.labels), "thresholds": thresholds}


def _problems(films: Sequence[Film]) -> str:
    return "; ".join(f"{film.path}: {film.problem or 'there is no frame in it'}" for film in films)
